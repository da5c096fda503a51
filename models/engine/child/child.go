// Package child is the inside of the engine's child process: it links Ollama,
// and with it all native code of Cloister.
//
// Main is `cloister engine`, started only by package engine; Runner is
// `cloister runner …`, started only by Main's server, and must be dispatched
// before anything else in main. It may import nothing of Cloister.
package child

// Runner runs one model: args is os.Args[1:], beginning with "runner". It
// returns the process's exit code.
func Runner(args []string) int { return 0 }

// Main serves models on the unix socket that its parent names in the
// environment, until its standard input ends. It returns the process's exit code.
func Main() int { return 0 }
