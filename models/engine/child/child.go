// Package child is the inside of the engine's child process: it links Ollama,
// and with it all native code of Cloister.
//
// Main is `cloister engine`, started only by package engine; Runner is
// `cloister runner …`, started only by Main's server, and must be dispatched
// before anything else in main. Both end when their parent does. On a processor
// that cannot run the native code every program with this package says so and
// ends (cpu.c). It may import nothing of Cloister.
package child

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/ollama/ollama/server"
	"golang.org/x/sys/unix"
)

// What package engine tells its child through the environment.
const (
	SocketVariable   = "CLOISTER_ENGINE_SOCKET"   // where to listen
	IsolatedVariable = "CLOISTER_ENGINE_ISOLATED" // "1": in its own network namespace

	// engineVariable is the engine's process id, for the runners that it starts.
	engineVariable = "CLOISTER_ENGINE_PID"

	readyFile = 3 // the file descriptor that the parent waits on
)

// Main serves models on the unix socket that its parent names in the
// environment, until its standard input ends. When it listens it writes a byte
// to readyFile. It returns the process's exit code.
func Main() int {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "cloister engine:", err)
		return 1
	}
	return 0
}

func run() error {
	unix.CloseOnExec(readyFile) // the runners must not hold it
	path := os.Getenv(SocketVariable)
	if path == "" {
		return errors.New("this is a part of `cloister serve`, which starts it by itself; run that instead")
	}
	if err := confine(); err != nil {
		return err
	}
	if os.Getenv(IsolatedVariable) == "1" {
		if err := raiseLoopback(); err != nil {
			return fmt.Errorf("raise the loopback interface: %w", err)
		}
	}
	if err := os.Setenv(engineVariable, strconv.Itoa(os.Getpid())); err != nil {
		return err
	}
	go endWithParent()
	inner := newIdle(path)
	served := make(chan error, 1)
	go func() { served <- server.Serve(inner) }()
	select {
	case <-inner.accepting:
	case err := <-served:
		return fmt.Errorf("start the inference server: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	ready := os.NewFile(readyFile, "ready")
	if _, err := ready.Write([]byte{'\n'}); err != nil {
		return err
	}
	ready.Close()
	// server.Serve has put its routes on the default mux, beside net/http/pprof;
	// only what front names can be reached from the socket.
	outer := &http.Server{Handler: front(http.DefaultServeMux), ReadHeaderTimeout: 10 * time.Second}
	go func() { served <- outer.Serve(ln) }()
	return <-served
}

// confine forbids this process and its runners core dumps, which would hold
// prompts, and makes them the kernel's choice before the node when memory runs
// out.
func confine() error {
	// One byte stops a program that collects dumps as well, which zero does not.
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	limit.Max = min(limit.Max, 1)
	limit.Cur = limit.Max
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &limit); err != nil {
		return fmt.Errorf("forbid core dumps: %w", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("500"), 0); err != nil {
		fmt.Fprintln(os.Stderr, "cloister engine: the kernel may end the node before it when memory runs out:", err)
	}
	return nil
}

// endWithParent waits for the end of standard input, which the parent holds
// open as long as it lives, asks the server to unload its runners, and then ends
// the whole process group.
func endWithParent() {
	io.Copy(io.Discard, os.Stdin) //nolint:errcheck // the end is what matters
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	time.Sleep(2 * time.Second)
	syscall.Kill(0, syscall.SIGKILL)
}
