package store_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/cloister-os/cloister/store"
)

const space store.Space = "H/test/"

func parts(t *rapid.T, label string) []string {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{"", "a", "a\x00", "a\x00\xff", "\x00\x01", "\xff", "b"}),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 6), func(b []byte) string { return string(b) }),
	)
	return rapid.SliceOfN(part, 0, 4).Draw(t, label)
}

func TestPartsUndoesKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := parts(t, "parts")
		got, ok := space.Parts(space.Key(want...))
		if !ok || !slices.Equal(got, want) {
			t.Fatalf("%q became %q, %v", want, got, ok)
		}
	})
}

func TestKeysSortByTheirParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts(t, "a"), parts(t, "b")
		if got, want := strings.Compare(string(space.Key(a...)), string(space.Key(b...))), slices.Compare(a, b); got != want {
			t.Fatalf("%q and %q compare as %d, want %d", a, b, got, want)
		}
	})
}

func TestPrefixHoldsItsKeysOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := parts(t, "a"), parts(t, "b")
		begins := len(b) >= len(a) && slices.Equal(b[:len(a)], a)
		k, p := space.Key(b...), space.Prefix(a...)
		if strings.HasPrefix(string(k), string(p)) != begins {
			t.Fatalf("%q under the prefix of %q: want %v", b, a, begins)
		}
		if inRange := k >= p && k < p.After(); inRange != begins {
			t.Fatalf("%q in the range of %q: %v, want %v", b, a, inRange, begins)
		}
	})
}

func TestAfterOfTheLastKeyIsEmpty(t *testing.T) {
	for k, want := range map[store.Key]store.Key{"": "", "\xff\xff": "", "a": "b", "a\xff": "b"} {
		if got := k.After(); got != want {
			t.Errorf("after %q comes %q, want %q", k, got, want)
		}
	}
}

func TestNumbersSortByValue(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Uint64().Draw(t, "a"), rapid.Uint64().Draw(t, "b")
		if (a < b) != (store.Number(a) < store.Number(b)) {
			t.Fatalf("%d and %d", a, b)
		}
		if n, ok := store.ParseNumber(store.Number(a)); !ok || n != a {
			t.Fatalf("%d became %d, %v", a, n, ok)
		}
	})
	if _, ok := store.ParseNumber("short"); ok {
		t.Error("a part of five bytes is a number")
	}
}
