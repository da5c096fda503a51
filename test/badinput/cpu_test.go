//go:build linux && amd64

package badinput

import (
	"debug/elf"
	"encoding/binary"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// TestAnOldProcessorIsRefusedInOneLine runs the binary on a processor without
// AVX2: the binary's first constructor is stepped through, and each CPUID in it
// gets an old processor's answer.
func TestAnOldProcessorIsRefusedInOneLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"serve", "--data", t.TempDir()}} {
		text, code := onOldProcessor(t, tracer(t), args)
		s := said{args: args, err: text, code: code}
		s.isWrong(t, "this processor lacks AVX2", "run it on a newer machine")
	}
}

// tracer is the binary, and ties the test to its thread: a tracee belongs to the
// thread that started it.
func tracer(t *testing.T) string {
	b := program(t)
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	return b
}

// onOldProcessor runs a program and returns what it wrote on standard error and
// its exit code.
func onOldProcessor(t *testing.T, path string, args []string) (string, int) {
	t.Helper()
	at := firstConstructor(t, path)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(path, args...)
	cmd.Stderr = w
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("this kernel lets no process be traced: %v", err)
	}
	w.Close()
	pid := cmd.Process.Pid
	var status syscall.WaitStatus
	wait := func() {
		t.Helper()
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
			t.Fatal(err)
		}
	}
	must := func(_ int, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("trace: %v", err)
		}
	}
	wait()
	before := make([]byte, 1)
	must(syscall.PtracePeekText(pid, uintptr(at), before))
	must(syscall.PtracePokeText(pid, uintptr(at), []byte{0xcc}))
	must(0, syscall.PtraceCont(pid, 0))
	wait()
	if !status.Stopped() || status.StopSignal() != syscall.SIGTRAP {
		t.Fatalf("the first constructor was not reached: %v", status)
	}
	must(syscall.PtracePokeText(pid, uintptr(at), before))
	var regs syscall.PtraceRegs
	must(0, syscall.PtraceGetRegs(pid, &regs))
	regs.Rip = at
	must(0, syscall.PtraceSetRegs(pid, &regs))
	asked := 0
	for step := 0; step < 20_000 && status.Stopped(); step++ {
		must(0, syscall.PtraceGetRegs(pid, &regs))
		code := make([]byte, 2)
		must(syscall.PtracePeekText(pid, uintptr(regs.Rip), code))
		leaf := uint32(regs.Rax)
		must(0, syscall.PtraceSingleStep(pid))
		wait()
		if code[0] == 0x0f && code[1] == 0xa2 && status.Stopped() {
			asked++
			must(0, syscall.PtraceGetRegs(pid, &regs))
			if leaf == 7 {
				regs.Rbx &^= 1 << 5 // AVX2
			}
			must(0, syscall.PtraceSetRegs(pid, &regs))
		}
	}
	if status.Stopped() {
		must(0, syscall.PtraceCont(pid, 0))
		wait()
	}
	if asked == 0 {
		t.Fatal("the first constructor does not ask what the processor is")
	}
	text := make([]byte, 4096)
	n, _ := r.Read(text)
	_ = cmd.Process.Release()
	return string(text[:n]), status.ExitStatus()
}

// firstConstructor is the address of what runs first in a program.
func firstConstructor(t *testing.T, path string) uint64 {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Type != elf.ET_EXEC {
		t.Skipf("%s is loaded at an address that is not known beforehand", path)
	}
	data, err := f.Section(".init_array").Data()
	if err != nil || len(data) < 8 {
		t.Fatalf("%s has no constructors: %v", path, err)
	}
	at := binary.LittleEndian.Uint64(data)
	if symbols, err := f.Symbols(); err == nil {
		for _, s := range symbols {
			if s.Value == at && !strings.Contains(s.Name, "check") && s.Info&0xf == byte(elf.STT_FUNC) {
				t.Fatalf("the first constructor is %s", s.Name)
			}
		}
	}
	return at
}
