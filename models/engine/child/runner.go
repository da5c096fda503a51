package child

import (
	"fmt"
	"os"
	"strconv"

	"github.com/ollama/ollama/runner"
	"golang.org/x/sys/unix"
)

// Runner runs one model: args is os.Args[1:], with or without the leading
// "runner". It returns the process's exit code.
func Runner(args []string) int {
	if len(args) > 0 && args[0] == "runner" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "cloister runner: this is a part of `cloister serve`, which starts it by itself; run that instead")
		return 1
	}
	// A runner whose server was killed would hold its model's memory for ever.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		fmt.Fprintln(os.Stderr, "cloister runner: ask to end with the engine:", err)
		return 1
	}
	// The kernel tells of no death that came before the question.
	if engine := os.Getenv(engineVariable); engine != "" && engine != strconv.Itoa(os.Getppid()) {
		fmt.Fprintln(os.Stderr, "cloister runner: the engine has ended")
		return 1
	}
	if err := runner.Execute(args); err != nil {
		fmt.Fprintln(os.Stderr, "cloister runner:", err)
		return 1
	}
	return 0
}
