package network

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if os.Getenv("CLOISTER_NETWORK_ECHO") != "" {
		echo()
	}
	Enter()
	os.Exit(m.Run())
}

// echo answers what it is sent, on a host.
func echo() {
	l, err := net.Listen("tcp", os.Getenv("CLOISTER_NETWORK_ECHO"))
	if err != nil {
		os.Exit(3)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(3)
		}
		go func() { _, _ = io.Copy(c, c) }()
	}
}

// TestRules: a link carries, is cut one way, heals, holds back and loses.
func TestRules(t *testing.T) {
	if why := Reason(); why != "" {
		t.Skip(why)
	}
	w, err := New(2)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	other, err := New(1)
	if err != nil {
		t.Fatal("a second network beside the first: ", err)
	}
	defer other.Close()
	if other.Host(0).Addr == w.Host(0).Addr {
		t.Error("two networks have the same addresses")
	}
	address := w.Host(0).Addr.String() + ":7"
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CLOISTER_NETWORK_ECHO="+address)
	if err := w.Host(0).Start(cmd); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	c := dial(t, address)
	say := strings.Repeat("a word that is longer than one packet ", 1000)
	hears(t, c, say)

	out := w.Outside()
	for _, way := range [][2]int{{out, 0}, {0, out}} {
		w.Set(way[0], way[1], Cut)
		before := w.Lost()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if n, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatalf("%d bytes came over a link that was cut", n)
		}
		if w.Lost() == before {
			t.Error("the cut lost nothing")
		}
		w.Heal()
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("after healing: %v", err)
		}
	}

	w.Both(out, 0, Rule{Loss: 0.1, Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond})
	began, before := time.Now(), w.Lost()
	hears(t, c, say)
	if took := time.Since(began); took < 40*time.Millisecond {
		t.Errorf("there and back took %v in spite of the delay", took)
	}
	if w.Lost() == before {
		t.Error("a lossy link lost nothing")
	}
	w.Heal()
	if _, err := net.DialTimeout("tcp", "192.0.2.1:7", 200*time.Millisecond); err == nil {
		t.Error("there is a way out of this network")
	}
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func hears(t *testing.T, c net.Conn, say string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = c.Write([]byte(say)) }()
	got := make([]byte, len(say))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != say {
		t.Fatalf("the echo differs: %v", err)
	}
}
