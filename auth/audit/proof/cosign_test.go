package proof

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

func cosignerOf(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func (l *testLog) cosigned(node string, seed byte, note []byte) {
	l.t.Helper()
	c, err := Cosign(note, node, cosignerOf(seed), time.Unix(1800000000, 0))
	if err != nil {
		l.t.Fatal(err)
	}
	if l.cosign == nil {
		l.cosign = map[string]Cosignature{}
	}
	l.cosign[node] = c
}

func TestCosignaturesAreCounted(t *testing.T) {
	l := newLog(t, 300)
	l.cosigned("node-1", 1, l.checkpoint(300))
	l.cosigned("node-2", 2, l.checkpoint(120))
	r, err := l.verify(l.bundle(250, 300), nil)
	if err != nil || len(r.Cosigned) != 2 || r.Cosigned[0].Node != "node-1" || r.Cosigned[0].Size != 300 || r.Cosigned[1].Size != 120 {
		t.Fatalf("%+v, %v", r.Cosigned, err)
	}
	if !r.Cosigned[0].Time.Equal(time.Unix(1800000000, 0)) || r.Cosigned[0].Key == r.Cosigned[1].Key {
		t.Errorf("%+v", r.Cosigned)
	}
	l.grow(10, "more")
	l.cosigned("node-3", 3, l.checkpoint(310))
	s := l.source(0, 100)
	s.Checkpoint = l.checkpoint(300)
	b := write(t, s)
	if r, err := l.verify(b, nil); err != nil || len(r.Cosigned) != 2 {
		t.Errorf("a cosignature of a later checkpoint: %+v, %v", r.Cosigned, err)
	}
}

// TestAWrongCosignatureIsRefused plays a log key holder who forges a node's word.
func TestAWrongCosignatureIsRefused(t *testing.T) {
	fork := newLog(t, 10).grow(50, "other")
	thief := newLog(t, 60)
	thief.key = newKey(t, "x")
	for name, forge := range map[string]func(*testLog){
		"of another tree":        func(l *testLog) { l.cosigned("node-1", 1, fork.checkpoint(60)) },
		"of another log key":     func(l *testLog) { l.cosigned("node-1", 1, thief.checkpoint(60)) },
		"by another node's name": func(l *testLog) { c := l.cosign["node-1"]; l.cosign = map[string]Cosignature{"node-2": c} },
		"by another key": func(l *testLog) {
			c := l.cosign["node-1"]
			c.Key = CosignerKey("node-1", cosignerOf(2).Public().(ed25519.PublicKey))
			l.cosign["node-1"] = c
		},
		"at another time": func(l *testLog) {
			c := l.cosign["node-1"]
			line := strings.TrimSuffix(c.Note[strings.LastIndex(c.Note, " ")+1:], "\n")
			sig, err := base64.StdEncoding.DecodeString(line)
			if err != nil {
				t.Fatal(err)
			}
			sig[11] ^= 1
			c.Note = strings.Replace(c.Note, line, base64.StdEncoding.EncodeToString(sig), 1)
			l.cosign["node-1"] = c
		},
		"cut": func(l *testLog) {
			c := l.cosign["node-1"]
			c.Note = c.Note[:len(c.Note)-9]
			l.cosign["node-1"] = c
		},
		"missing": func(l *testLog) {
			c := l.cosign["node-1"]
			c.Note = string(l.checkpoint(60))
			l.cosign["node-1"] = c
		},
	} {
		l := newLog(t, 60)
		l.cosigned("node-1", 1, l.checkpoint(60))
		forge(l)
		if _, err := l.verify(l.bundle(0, 60), nil); err == nil || !strings.Contains(err.Error(), "the cosignature of node node-") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestACosignatureIsWhatC2SPSays: name, type, key id, time and signed text of
// tlog-cosignature, put together here by hand.
func TestACosignatureIsWhatC2SPSays(t *testing.T) {
	l := newLog(t, 4)
	note := l.checkpoint(4)
	c, err := Cosign(note, "node-1", cosignerOf(1), time.Unix(1700000000, 0))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(c.Note, string(note)) || !strings.HasPrefix(c.Note[len(note):], "— cloister.internal/node/node-1 ") {
		t.Fatalf("note %q", c.Note)
	}
	sig, err := base64.StdEncoding.DecodeString(strings.Fields(c.Note[len(note):])[2])
	if err != nil || len(sig) != 4+8+64 {
		t.Fatalf("%d bytes, %v", len(sig), err)
	}
	text, _, _ := strings.Cut(string(note), "\n\n")
	pub := cosignerOf(1).Public().(ed25519.PublicKey)
	if !ed25519.Verify(pub, []byte("cosignature/v1\ntime 1700000000\n"+text+"\n"), sig[12:]) {
		t.Error("the signature is of another text")
	}
	if !bytes.Equal(sig[4:12], []byte{0, 0, 0, 0, 0x65, 0x53, 0xf1, 0x00}) {
		t.Errorf("time %x", sig[4:12])
	}
	raw, err := base64.StdEncoding.DecodeString(strings.SplitN(c.Key, "+", 3)[2])
	if err != nil || raw[0] != 4 || !bytes.Equal(raw[1:], pub) {
		t.Errorf("key %x, %v", raw, err)
	}
}
