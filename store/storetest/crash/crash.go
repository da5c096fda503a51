// Package crash kills a store and sees whether it kept its word.
//
// A child process (the test's own binary, started again) checks what the store
// holds against every acknowledgement that a client outside has synced to its own
// disk, then writes with many writers until it is killed. Since the check runs
// in the child, the store is never closed: each life begins with what the last
// one left. How the child dies is the caller's: SIGKILL, or a power cut of the
// file system under it.
//
// It may import store and nothing else of Cloister, and only tests may import it.
package crash

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// The child finds its task in the environment.
const (
	envDir  = "CLOISTER_CRASH_DIR"  // the store's folder
	envAcks = "CLOISTER_CRASH_ACKS" // the client's record
	envLife = "CLOISTER_CRASH_LIFE" // the child's number, from 1
)

// Writers is how many clients write at once.
const Writers = 64

// Store is a store that can be waited for.
type Store interface {
	store.Store
	Ready() <-chan struct{}
	Fatal() <-chan error
}

// Child runs the child's part and exits the process when this process is one.
// Call it first in TestMain. open opens the store, tuned by the life's number.
func Child(open func(ctx context.Context, dir string, life int) (Store, error)) {
	dir := os.Getenv(envDir)
	if dir == "" {
		return
	}
	life, err := strconv.Atoi(os.Getenv(envLife))
	if err == nil {
		err = child(dir, life, open)
	}
	fmt.Println("failed", strconv.Quote(fmt.Sprint(err)))
	os.Exit(3)
}

func child(dir string, life int, open func(context.Context, string, int) (Store, error)) error {
	ctx := context.Background()
	acks, err := readAcks(os.Getenv(envAcks))
	if err != nil {
		return err
	}
	fmt.Println("started")
	s, err := open(ctx, dir, life)
	if err != nil {
		return err
	}
	select {
	case <-s.Ready():
	case err := <-s.Fatal():
		return err
	}
	if err := Check(ctx, s, acks); err != nil {
		return fmt.Errorf("life %d: %w", life, err)
	}
	fmt.Println("ready")
	if os.Getenv(envLife) == "0" {
		os.Exit(0)
	}
	return write(ctx, s, life)
}

// write runs the writers until one fails. Each tells what was acknowledged.
func write(ctx context.Context, s Store, life int) error {
	out := make(chan string, 4096)
	failed := make(chan error, Writers+1)
	for w := range Writers {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d/%d/%d", life, w, i)
				tx := Tx(id)
				var res store.Result
				var err error
				if i%2 == 0 {
					res, err = s.Apply(ctx, tx)
				} else {
					res, err = s.Submit(ctx, tx, store.Class(i/2%2)).Wait(ctx)
				}
				if err != nil {
					failed <- err
					return
				}
				out <- fmt.Sprintf("ack %s %d %d\n", id, res.Version, res.Seqs[0])
			}
		}()
	}
	w := bufio.NewWriter(os.Stdout)
	for {
		select {
		case line := <-out:
			w.WriteString(line)
			if len(out) == 0 {
				w.Flush()
			}
		case err := <-failed:
			return err
		case err := <-s.Fatal():
			return err
		}
	}
}

// Tx is the transaction that carries an id: state, history, a leaf and counters
// in both databases, which must appear together or not at all.
func Tx(id string) *store.Tx {
	tx := store.NewTx()
	tx.Check(stateSpace.Key(id), 0)
	tx.Put(stateSpace.Key(id), value(id))
	tx.Put(historySpace.Key(id), value(id))
	tx.Append(logName, []byte(id))
	tx.Add(stateCount, 1, store.NoLimit, 0)
	tx.Add(historyCount, 1, store.NoLimit, 0)
	return tx
}

const (
	stateSpace   store.Space = "S/crash/"
	historySpace store.Space = "H/crash/"
	stateCount   store.Key   = "S/crashes"
	historyCount store.Key   = "H/crashes"
	logName                  = "crash"
)

// value is what an id's keys must hold: of varying length, so that a value that
// belongs to another id or was cut short is seen.
func value(id string) []byte {
	return []byte(strings.Repeat(id+";", 1+len(id)%7*5))
}

// Parent starts children on a store's folder and keeps the client's record.
type Parent struct {
	Dir  string   // of the store
	Env  []string // more for the child's environment
	path string
	life int
	acks int
}

// NewParent returns a parent whose record is in a folder of the test's own.
func NewParent(t testing.TB, dir string) *Parent {
	return &Parent{Dir: dir, path: t.TempDir() + "/acks"}
}

// Acks is how many transactions were acknowledged so far.
func (p *Parent) Acks() int { return p.acks }

// Run starts the next child and kills it by calling kill, after the delay:
// counted from the child's start when early is set, which hits the recovery, and
// else from when it has checked everything and writes. It returns when the child
// is dead and what it acknowledged is on disk.
func (p *Parent) Run(t testing.TB, delay time.Duration, early bool, kill func(*os.Process)) {
	t.Helper()
	p.life++
	cmd, out := p.start(t, p.life)
	word := "ready"
	if early {
		word = "started"
	}
	var once sync.Once
	var timer *time.Timer
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for out.Scan() {
		line := out.Text()
		switch {
		case line == word:
			once.Do(func() { timer = time.AfterFunc(delay, func() { kill(cmd.Process) }) })
		case strings.HasPrefix(line, "ack "):
			p.acks++
			if _, err := fmt.Fprintln(f, line); err != nil {
				t.Fatal(err)
			}
		case strings.HasPrefix(line, "failed "):
			if timer == nil || timer.Stop() { // before it was killed
				t.Fatal(line)
			}
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if timer == nil {
		t.Fatalf("life %d ended before it said %q: %v\n%s", p.life, word, cmd.ProcessState, cmd.Stderr)
	}
	timer.Stop()
}

// Finish starts a last child that only checks.
func (p *Parent) Finish(t testing.TB) {
	t.Helper()
	cmd, out := p.start(t, 0)
	last := ""
	for out.Scan() {
		last = out.Text()
	}
	if err := cmd.Wait(); err != nil || last != "ready" {
		t.Fatalf("the last check: %v, %s\n%s", err, last, cmd.Stderr)
	}
}

func (p *Parent) start(t testing.TB, life int) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envDir+"="+p.Dir, envAcks+"="+p.path, envLife+"="+strconv.Itoa(life))
	cmd.Env = append(cmd.Env, p.Env...)
	cmd.Stderr = &strings.Builder{}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	return cmd, bufio.NewScanner(out)
}

// Ack is what the client was told of a transaction.
type Ack struct {
	ID      string
	Version store.Version
	Seq     uint64
}

func readAcks(path string) ([]Ack, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var acks []Ack
	for s := bufio.NewScanner(f); s.Scan(); {
		var a Ack
		if _, err := fmt.Sscanf(s.Text(), "ack %s %d %d", &a.ID, &a.Version, &a.Seq); err != nil {
			return nil, fmt.Errorf("record %q: %w", s.Text(), err)
		}
		acks = append(acks, a)
	}
	return acks, nil
}
