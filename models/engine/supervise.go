package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// maxSocketPath is what sockaddr_un holds, less the final zero.
const maxSocketPath = 107

// maxLogLine bounds what one line of the child's log may take of ours.
const maxLogLine = 1 << 10

// socketPath is DIR/engine.sock, or a private name under the temporary folder
// when that is too long for a socket's address.
func socketPath(dir string) string {
	path := filepath.Join(dir, "engine.sock")
	if len(path) <= maxSocketPath {
		return path
	}
	h := fnv.New64a()
	io.WriteString(h, dir)
	return filepath.Join(os.TempDir(), fmt.Sprintf("cloister-engine-%d-%x.sock", os.Getuid(), h.Sum64()))
}

// supervise keeps one child running until the context ends. The pause after a
// child's end doubles up to lastBackoff and starts over once one has lived that
// long.
func (e *Engine) supervise(ctx context.Context) {
	defer close(e.stopped)
	defer os.Remove(e.socket)
	// The kernel sends the parent-death signal when the thread that started the
	// child ends, so that thread must live as long as the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	backoff := firstBackoff
	for ctx.Err() == nil {
		began := time.Now()
		err := e.runChild(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastBackoff {
			backoff = firstBackoff
		}
		e.ended(err)
		e.config.Logger.Warn("the model engine ended and will be started again", "reason", err, "in", backoff)
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

func (e *Engine) ended(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.isReady() {
		e.state.ready = make(chan struct{})
	}
	e.state.last, e.state.pid = err, 0
	e.state.restarts++
}

func (e *Engine) began(pid int, isolated bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state.pid, e.state.isolated = pid, isolated
}

func (e *Engine) answers() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.state.ready)
}

// runChild starts a child and returns why it ended. When it returns, the whole
// process group is gone.
func (e *Engine) runChild(ctx context.Context) error {
	c, err := e.start()
	if err != nil {
		return fmt.Errorf("start the engine's process: %w", err)
	}
	e.began(c.cmd.Process.Pid, c.isolated)
	watch, stopWatch := context.WithCancel(ctx)
	defer stopWatch()
	go e.watch(watch, c)
	err = c.cmd.Wait()
	syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // runners whose server died
	if tail := c.tail(); tail != "" && err != nil {
		return fmt.Errorf("%w: %s", err, tail)
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return err
}

// watch reports the child ready, asks after its health, and ends it with the
// context.
func (e *Engine) watch(ctx context.Context, c *childProcess) {
	select {
	case <-c.ready:
		e.answers()
		e.config.Logger.Info("the model engine is ready", "pid", c.cmd.Process.Pid, "own_network", c.isolated)
	case <-ctx.Done():
		c.end()
		return
	}
	ticker := time.NewTicker(e.config.Health)
	defer ticker.Stop()
	for misses := 0; misses < healthMisses; {
		select {
		case <-ticker.C:
			if e.healthy(ctx) {
				misses = 0
			} else {
				misses++
			}
		case <-ctx.Done():
			c.end()
			return
		}
	}
	e.config.Logger.Error("the model engine does not answer and is ended", "pid", c.cmd.Process.Pid)
	syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL)
}

func (e *Engine) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, e.config.Health)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/api/version", nil)
	if err != nil {
		return false
	}
	res, err := e.client.Do(req)
	if err != nil {
		return ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded)
	}
	res.Body.Close()
	return res.StatusCode == http.StatusOK
}

// childProcess is a running child.
type childProcess struct {
	cmd      *exec.Cmd
	lifeline io.Closer     // the child's standard input: it ends when this closes
	ready    chan struct{} // closed when it listens; stays open when it ends before
	isolated bool
	log      *logWriter
}

// end closes the lifeline and, if that does not help in time, kills the group.
func (c *childProcess) end() {
	c.lifeline.Close()
	pid := c.cmd.Process.Pid
	timer := time.AfterFunc(stopWait, func() { syscall.Kill(-pid, syscall.SIGKILL) })
	go func() {
		c.log.wait()
		timer.Stop()
	}()
}

// tail is the last line the child wrote that says why it ended.
func (c *childProcess) tail() string {
	c.log.wait()
	return c.log.last
}

// start runs the child, in its own network namespace when the kernel lets us.
func (e *Engine) start() (*childProcess, error) {
	if !e.config.OpenNet {
		c, err := e.startIn(isolation())
		if err == nil {
			c.isolated = true
			return c, nil
		}
		if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.EINVAL) &&
			!errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EACCES) {
			return nil, err
		}
		e.config.Logger.Warn("the model engine shares the node's network, since the kernel gives it none of its own; it dials only its own runners", "reason", err)
	}
	return e.startIn(&syscall.SysProcAttr{})
}

// isolation asks for a new network namespace; whoever is not root needs a user
// namespace to own it.
func isolation() *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
}

// start starts a command that may get a user namespace. The maps of that can only
// be written while this process may be looked into (PR_SET_DUMPABLE), which a node
// forbids otherwise.
func start(cmd *exec.Cmd) error {
	was, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || was == 1 || cmd.SysProcAttr.Cloneflags&syscall.CLONE_NEWUSER == 0 {
		return cmd.Start()
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return err
	}
	return errors.Join(cmd.Start(), unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(was), 0, 0, 0))
}

func (e *Engine) startIn(attr *syscall.SysProcAttr) (*childProcess, error) {
	isolated := attr.Cloneflags != 0
	attr.Setpgid = true
	attr.Pdeathsig = syscall.SIGKILL
	cmd := exec.Command(e.config.Binary, "engine")
	cmd.Env = e.environment(isolated)
	cmd.Dir = e.config.Dir
	cmd.SysProcAttr = attr
	readyRead, readyWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer readyWrite.Close()
	cmd.ExtraFiles = []*os.File{readyWrite}
	lifeline, err := cmd.StdinPipe()
	if err != nil {
		readyRead.Close()
		return nil, err
	}
	log := newLogWriter(e.config.Logger)
	cmd.Stderr = log.pipe
	if err := start(cmd); err != nil {
		readyRead.Close()
		log.close()
		return nil, err
	}
	log.close()
	c := &childProcess{cmd: cmd, lifeline: lifeline, ready: make(chan struct{}), log: log}
	go func() {
		defer readyRead.Close()
		one := make([]byte, 1)
		if n, _ := readyRead.Read(one); n == 1 {
			close(c.ready)
		}
	}()
	return c, nil
}

// environment is all that the child sees of ours.
func (e *Engine) environment(isolated bool) []string {
	c := e.config
	env := []string{
		"CLOISTER_ENGINE_SOCKET=" + e.socket,
		"HOME=" + c.Dir,
		"TMPDIR=" + c.temp(),
		"PATH=/usr/bin:/bin",
		"GIN_MODE=release",
		"OLLAMA_MODELS=" + c.models(),
		"OLLAMA_NO_CLOUD=1",
		"OLLAMA_NOPRUNE=1",
		"OLLAMA_REMOTES=none.invalid",
		"OLLAMA_HOST=127.0.0.1",
		"OLLAMA_NUM_PARALLEL=1",
		"OLLAMA_MAX_QUEUE=" + strconv.Itoa(maxQueued),
		"OLLAMA_MAX_LOADED_MODELS=" + strconv.Itoa(maxLoaded),
		"OLLAMA_KEEP_ALIVE=" + c.Keep.String(),
		"OLLAMA_CONTEXT_LENGTH=" + strconv.Itoa(c.Context),
	}
	if isolated {
		env = append(env, "CLOISTER_ENGINE_ISOLATED=1")
	}
	return env
}

// logWriter turns the child's standard error into debug records, one for each
// line. The engine logs sizes and times, never prompts.
type logWriter struct {
	pipe *os.File // given to the child
	done chan struct{}
	last string // valid once done is closed
}

func newLogWriter(logger *slog.Logger) *logWriter {
	l := &logWriter{done: make(chan struct{})}
	read, write, err := os.Pipe()
	if err != nil {
		close(l.done)
		return l
	}
	l.pipe = write
	go func() {
		defer close(l.done)
		defer read.Close()
		lines := bufio.NewReaderSize(read, maxLogLine)
		for {
			line, err := lines.ReadSlice('\n')
			if text := strings.TrimSpace(string(line)); text != "" {
				l.last = text
				logger.Debug("model engine", "line", text)
			}
			if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
				return
			}
		}
	}()
	return l
}

func (l *logWriter) close() {
	if l.pipe != nil {
		l.pipe.Close()
	}
}

// wait returns when the child and all it started have closed the pipe.
func (l *logWriter) wait() { <-l.done }
