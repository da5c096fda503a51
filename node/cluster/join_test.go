package cluster

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
)

// token is an invitation to the world of a port.
func (w *world) token(p *Port) Token {
	return Token{Cluster: w.id, Addresses: []string{p.Addr().String()}, Pin: Pin(w.ca.Certificate()), Secret: make([]byte, secretBytes), Expires: time.Now().Add(time.Minute).Unix()}
}

func TestATokenSurvivesBeingCopied(t *testing.T) {
	w := newWorld(t, "one")
	p, _ := w.open("node-1", &clock{}, nil)
	want := w.token(p)
	got, err := ParseToken("  " + want.String() + "\n")
	if err != nil || got.String() != want.String() {
		t.Fatalf("%+v %v", got, err)
	}
	text := want.String()
	for name, bad := range map[string]string{"empty": "", "cut": text[:len(text)-9], "a key": "cl_0123456789abcdef_xxxxxxxx", "changed": text[:5] + "x" + text[6:]} {
		if _, err := ParseToken(bad); err == nil || !strings.Contains(err.Error(), "copy all of what") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("cj_")
	f.Add(Token{Cluster: "c", Addresses: []string{"a:1"}, Pin: make([]byte, 32), Secret: make([]byte, 32)}.String())
	f.Fuzz(func(t *testing.T, s string) {
		if tok, err := ParseToken(s); err == nil && (len(tok.Secret) != secretBytes || len(tok.Addresses) == 0) {
			t.Errorf("%+v was taken", tok)
		}
	})
}

func TestJoinCarriesTheRequestAndTheAnswer(t *testing.T) {
	w := newWorld(t, "one")
	p, _ := w.open("node-1", &clock{}, nil)
	in := JoinRequest{Node: "node-2", Address: "10.0.0.2:1", Program: "test"}
	if _, err := Join(t.Context(), w.token(p), in); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "starting") {
		t.Errorf("before the node takes anybody in: %v", err)
	}
	var got JoinRequest
	p.HandleJoin(func(_ context.Context, r JoinRequest) (JoinReply, error) {
		got = r
		return JoinReply{Cluster: w.id, Joined: 7, Seal: make([]byte, 100<<10), Members: map[string]string{"node-1": "10.0.0.1:1"}}, nil
	})
	// The first address does not answer: the next one is asked.
	tok := w.token(p)
	tok.Addresses = append([]string{deaf(t)}, tok.Addresses...)
	reply, err := Join(t.Context(), tok, in)
	if err != nil || reply.Joined != 7 || len(reply.Seal) != 100<<10 || got.Node != "node-2" || string(got.Secret) != string(tok.Secret) {
		t.Errorf("%+v %+v %v", reply, got, err)
	}
}

// deaf is an address at which nobody listens.
func deaf(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestAJoinThatCannotBeIsRefusedWithASentence(t *testing.T) {
	tests := []struct {
		name, want string
		change     func(w, other *world, t *Token, c *Config)
	}{
		{"another cluster at the address", "another cluster than the invitation's", func(_, other *world, t *Token, _ *Config) { t.Pin = Pin(other.ca.Certificate()) }},
		{"another cluster's id", "is of another cluster", func(_, _ *world, t *Token, _ *Config) { t.Cluster = "other" }},
		{"an old program", "install the cluster's program", func(_, _ *world, _ *Token, c *Config) { c.Format = func() int { return store.Format + 1 } }},
		{"a clock that is wrong", "set the clocks of both right", func(_, _ *world, _ *Token, c *Config) {
			now := &clock{}
			now.advance(time.Hour)
			c.Now = now.now
		}},
		{"nobody there", "no node of the cluster could be asked", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w, other := newWorld(t, "0123456789"), newWorld(t, "abcdefghij")
			probe, _ := w.open("node-9", &clock{}, nil)
			tok := w.token(probe)
			p, _ := w.open("node-1", &clock{}, func(c *Config) {
				if tt.change != nil {
					tt.change(w, other, &tok, c)
				}
			})
			tok.Addresses = []string{p.Addr().String()}
			if tt.change == nil {
				tok.Addresses = []string{deaf(t)}
			}
			p.HandleJoin(func(context.Context, JoinRequest) (JoinReply, error) {
				t.Error("the node was asked to take it in")
				return JoinReply{}, nil
			})
			_, err := Join(t.Context(), tok, JoinRequest{Node: "node-2", Address: "10.0.0.2:1", Program: "test"})
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one sentence with %q", err, tt.want)
			}
		})
	}
}

// TestAFrameThatIsTooLongIsRefused plays a peer that announces 2 GB.
func TestAFrameThatIsTooLongIsRefused(t *testing.T) {
	w := newWorld(t, "one")
	p, _ := w.open("node-1", &clock{}, nil)
	stranger, _ := w.open("node-2", &clock{}, nil)
	raw, err := net.Dial("tcp", p.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := careless(raw, stranger, true)
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write([]byte{0x7f, 0xff, 0xff, 0xff, 'x'}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("it was answered")
	}
	var short Conn
	if err := readFrame(strings.NewReader("\x7f\xff\xff\xff"), maxHello, &short); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "2147483647 bytes") {
		t.Errorf("%v", err)
	}
}
