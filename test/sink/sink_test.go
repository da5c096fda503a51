package sink

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain doubles as the program that dials where it must not.
func TestMain(m *testing.M) {
	switch os.Getenv("SINK_CHILD") {
	case "dial":
		c, err := net.DialTimeout("tcp", "192.0.2.7:443", time.Second)
		if err == nil {
			c.Close()
		}
		os.Exit(0)
	case "resolve":
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		_, _ = net.DefaultResolver.LookupHost(ctx, "example.test")
		os.Exit(0)
	case "loopback":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			os.Exit(1)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			os.Exit(1)
		}
		c.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func child(t *testing.T, s *Sink, what string) []string {
	t.Helper()
	cmd := s.Command(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "SINK_CHILD="+what)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s inside: %v: %s", what, err, out)
	}
	return s.Frames()
}

func TestSinkSeesADialAndALookupAndNothingElse(t *testing.T) {
	if why := Reason(); why != "" {
		t.Skip(why)
	}
	s := New(t)
	if got := child(t, s, "loopback"); len(got) != 0 {
		t.Fatalf("loopback alone reached the sink: %v", got)
	}
	if got := child(t, s, "dial"); !strings.Contains(strings.Join(got, "\n"), "192.0.2.7 port 443") && !strings.Contains(strings.Join(got, "\n"), "ARP") {
		t.Fatalf("the sink did not see a forbidden dial: %v", got)
	}
	before := len(s.Frames())
	if got := child(t, s, "resolve"); len(got) <= before || !strings.Contains(strings.Join(got[before:], "\n"), "port 53") {
		t.Fatalf("the sink did not see a name lookup: %v", got)
	}
}

// Each sink of a process must see its own frames: an earlier one's recorder once
// lived on and took them.
func TestASinkAfterAnotherSeesItsOwnFrames(t *testing.T) {
	if why := Reason(); why != "" {
		t.Skip(why)
	}
	for range 5 {
		t.Run("", func(t *testing.T) {
			s := New(t)
			if got := child(t, s, "dial"); len(got) == 0 {
				t.Fatal("the sink did not see a forbidden dial")
			}
		})
	}
}
