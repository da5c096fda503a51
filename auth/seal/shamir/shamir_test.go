package shamir

import (
	"bytes"
	"encoding/hex"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The products of FIPS 197, section 4.2.
func TestTheFieldIsThatOfAES(t *testing.T) {
	for _, c := range [][3]byte{{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0x57, 0x04, 0x47}, {0x57, 0x08, 0x8e}, {0x57, 0x10, 0x07}, {0x53, 0xca, 0x01}} {
		if got := multiply(c[0], c[1]); got != c[2] {
			t.Errorf("%x · %x = %x, want %x", c[0], c[1], got, c[2])
		}
	}
	if invert(0x53) != 0xca {
		t.Errorf("1/53 = %x", invert(0x53))
	}
}

func TestTheFieldIsAField(t *testing.T) {
	for a := range 256 {
		if a > 0 && multiply(byte(a), invert(byte(a))) != 1 {
			t.Errorf("%x has no inverse", a)
		}
		for b := range 256 {
			if multiply(byte(a), byte(b)) != multiply(byte(b), byte(a)) {
				t.Fatalf("%x · %x", a, b)
			}
			if want := slow(a, b); multiply(byte(a), byte(b)) != want {
				t.Fatalf("%x · %x is not %x", a, b, want)
			}
		}
	}
}

// slow multiplies polynomials and takes the remainder by long division.
func slow(a, b int) byte {
	p := 0
	for i := range 8 {
		if b>>i&1 == 1 {
			p ^= a << i
		}
	}
	for i := 15; i >= 8; i-- {
		if p>>i&1 == 1 {
			p ^= 0x11b << (i - 8)
		}
	}
	return byte(p)
}

// The first test vector of draft-mcgrew-tss-03, section 9.
func TestAPublishedVector(t *testing.T) {
	shares := []Share{{1, unhex(t, "b9fa07e185")}, {2, unhex(t, "f5409b4511")}}
	got, err := Combine(shares)
	if err != nil || !bytes.Equal(got, unhex(t, "7465737400")) {
		t.Errorf("%x %v", got, err)
	}
}

func TestAnyEnoughSharesBringTheSecretBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "secret")
		of := rapid.IntRange(2, 12).Draw(t, "of")
		need := rapid.IntRange(2, of).Draw(t, "need")
		shares, err := Split(secret, of, need)
		if err != nil {
			t.Fatal(err)
		}
		order := rapid.Permutation(shares).Draw(t, "order")
		for n := need; n <= of; n++ {
			if got, err := Combine(order[:n]); err != nil || !bytes.Equal(got, secret) {
				t.Fatalf("%d of %d shares, %d needed: %x %v", n, of, need, got, err)
			}
		}
	})
}

// TestTooFewSharesSayNothing: for every value that a secret could have there is a
// third share that would lead to it, so two of three say nothing.
func TestTooFewSharesSayNothing(t *testing.T) {
	shares, err := Split([]byte{0x42}, 3, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[byte]bool{}
	for y := range 256 {
		got, err := Combine([]Share{shares[0], shares[1], {3, []byte{byte(y)}}})
		if err != nil {
			t.Fatal(err)
		}
		seen[got[0]] = true
	}
	if len(seen) != 256 {
		t.Errorf("only %d secrets are possible", len(seen))
	}
}

func TestWhatCannotBeSplitOrCombined(t *testing.T) {
	for _, c := range [][2]int{{1, 1}, {3, 1}, {2, 3}, {256, 2}, {0, 0}} {
		if _, err := Split([]byte("x"), c[0], c[1]); err == nil {
			t.Errorf("%d of which %d", c[0], c[1])
		}
	}
	if _, err := Split(nil, 3, 2); err == nil {
		t.Error("nothing was split")
	}
	for name, bad := range map[string][]Share{
		"none": nil, "one": {{1, []byte{1}}}, "the same twice": {{1, []byte{1}}, {1, []byte{1}}},
		"at zero": {{0, []byte{1}}, {1, []byte{1}}}, "of two lengths": {{1, []byte{1}}, {2, []byte{1, 2}}}, "empty": {{1, nil}, {2, nil}},
	} {
		if _, err := Combine(bad); err == nil {
			t.Errorf("%s: combined", name)
		}
	}
}
