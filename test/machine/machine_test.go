package machine

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Enter()
	os.Exit(m.Run())
}

// TestMachinesReachEachOtherAndNothingElse boots two machines, has one speak to
// the other and to the test, and shows that this stays on their network while a
// dial and a lookup that lead elsewhere are seen.
func TestMachinesReachEachOtherAndNothingElse(t *testing.T) {
	if why := Reason(); why != "" {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	lan := NewLAN(t)
	a, b := lan.New(t, "a"), lan.New(t, "b")
	for _, m := range []*Machine{a, b} {
		if err := m.Boot(ctx); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", Laptop+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if _, err := a.Run(ctx, "bash", "-c", "exec 3<>/dev/tcp/"+Laptop+"/"+port); err != nil {
		t.Fatal("a machine does not reach the test: ", err)
	}
	// Nothing listens there: a refusal shows that the other machine answered.
	if out, _ := a.Run(ctx, "bash", "-c", "exec 3<>/dev/tcp/"+b.Addr+"/9"); !strings.Contains(out, "Connection refused") {
		t.Fatalf("a machine does not reach another: %s", out)
	}
	if got := lan.Frames(); len(got) != 0 {
		t.Fatalf("what the machines said to each other left their network: %v", got)
	}
	_, _ = a.Run(ctx, "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.7/443")
	if got := strings.Join(lan.Frames(), "\n"); !strings.Contains(got, "192.0.2.7 port 443") && !strings.Contains(got, "ARP") {
		t.Fatalf("a dial that leads elsewhere was not seen: %s", got)
	}
	before := len(lan.Frames())
	_, _ = b.Run(ctx, "timeout", "5", "getent", "hosts", "example.test")
	if got := lan.Frames(); len(got) <= before || !strings.Contains(strings.Join(got[before:], "\n"), "port 53") {
		t.Fatalf("a lookup was not seen: %v", got)
	}
}

// TestAMachineThatWasCutKeepsItsDisk cuts a machine off and boots it again.
func TestAMachineThatWasCutKeepsItsDisk(t *testing.T) {
	if why := Reason(); why != "" {
		t.Skip(why)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	m := NewLAN(t).New(t, "a")
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Run(ctx, "sh", "-c", "echo kept >/root/note; nohup sleep 1000 >/dev/null 2>&1 &"); err != nil {
		t.Fatal(err)
	}
	m.Cut()
	if out, err := m.Run(ctx, "true"); err == nil {
		t.Fatalf("a machine that was cut off runs a command: %s", out)
	}
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	if out, err := m.Run(ctx, "cat", "/root/note"); err != nil || out != "kept\n" {
		t.Fatalf("%q %v", out, err)
	}
	if err := m.PowerOff(ctx); err != nil {
		t.Fatal(err)
	}
}
