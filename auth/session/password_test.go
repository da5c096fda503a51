package session

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
)

func TestPasswordsAreHashedWithArgon2idAt64MiB(t *testing.T) {
	h := newHasher(defaultCost())
	stored, err := h.hash(t.Context(), goodPassword)
	if err != nil || !strings.HasPrefix(stored, "$argon2id$v=19$m=65536,t=3,p=1$") {
		t.Fatalf("%s %v", stored, err)
	}
	for password, want := range map[string]bool{goodPassword: true, goodPassword + " ": false} {
		if ok, err := h.verify(t.Context(), stored, password); err != nil || ok != want {
			t.Errorf("%q: %v %v", password, ok, err)
		}
	}
}

func TestAStoredHashCannotAskForTheWholeMachine(t *testing.T) {
	h := newHasher(cost{64, 1, 1})
	for _, stored := range []string{"$argon2id$v=19$m=4194304,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$" + strings.Repeat("A", 43), "$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAA$" + strings.Repeat("A", 43), "$2a$10$x", "plain"} {
		if ok, err := h.verify(t.Context(), stored, "x"); err == nil || ok {
			t.Errorf("%s: %v %v", stored, ok, err)
		}
	}
}

func TestAFloodOfSignInsWaitsInAShortQueue(t *testing.T) {
	h := newHasher(cost{64, 1, 1})
	for range cap(h.slots) {
		h.slots <- struct{}{} // busy with others
	}
	ctx, cancel := context.WithCancel(t.Context())
	waiting := make(chan error, hashQueue)
	for range hashQueue {
		go func() {
			_, err := h.verify(ctx, "", "x")
			waiting <- err
		}()
	}
	for h.queue.Load() < hashQueue {
		if t.Context().Err() != nil {
			t.Fatal("they do not queue")
		}
	}
	if _, err := h.verify(ctx, "", "x"); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("one more: %v", err)
	}
	cancel()
	for range hashQueue {
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

func TestEqualPasswordsHaveOneForm(t *testing.T) {
	h := newHasher(cost{64, 1, 1})
	stored, err := h.hash(t.Context(), "un café très corsé")
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := h.verify(t.Context(), stored, "un cafe\u0301 très corse\u0301"); err != nil || !ok {
		t.Errorf("%v %v", ok, err)
	}
}

func FuzzCanonical(f *testing.F) {
	for _, s := range []string{"ada", " ADA ", "ａｄａ", "Straße", "İ", "ﬁ", "a\u0301", "ᾳ", "\u1e9e", "a  b", "\u2126", "x\u200by"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := Canonical(s)
		if err != nil {
			return
		}
		again, err := Canonical(name)
		if err != nil || again != name {
			t.Errorf("%q became %q, and that %q (%v)", s, name, again, err)
		}
		for _, alias := range []string{" " + s, s + "\t", strings.ToUpper(name)} {
			other, err := Canonical(alias)
			if err == nil && other != name && strings.ToLower(strings.ToUpper(name)) == name {
				t.Errorf("%q is %q and its alias %q is %q", s, name, alias, other)
			}
		}
	})
}
