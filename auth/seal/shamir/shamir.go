// Package shamir splits a secret into shares of which some number brings it back,
// and fewer say nothing of it (A. Shamir, How to Share a Secret, CACM 22(11), 1979).
//
// It promises: arithmetic in GF(2^8) modulo x^8+x^4+x^3+x+1 without a table lookup or
// a branch that depends on a secret; coefficients from the system's random source;
// Combine cannot tell a wrong share, which is for its caller to find out. Each byte
// of the secret has a polynomial of its own, as in draft-mcgrew-tss-03, whose first
// test vector is one of the tests.
//
// It may import nothing of Cloister.
package shamir

import (
	"crypto/rand"
	"errors"
	"fmt"
)

// Share is a point of the polynomials: X is never 0, where the secret is.
type Share struct {
	X byte
	Y []byte // as long as the secret
}

// MaxShares is the most that a secret can be split into.
const MaxShares = 255

// Split makes so many shares of a secret, need of which bring it back.
func Split(secret []byte, of, need int) ([]Share, error) {
	if need < 2 || of < need || of > MaxShares {
		return nil, fmt.Errorf("a secret cannot be split into %d shares of which %d are needed: 2 to %d are needed, of at most %d", of, need, of, MaxShares)
	}
	if len(secret) == 0 {
		return nil, errors.New("there is no secret to split")
	}
	shares := make([]Share, of)
	for i := range shares {
		shares[i] = Share{X: byte(i + 1), Y: make([]byte, len(secret))}
	}
	coefficients := make([]byte, need)
	defer clear(coefficients)
	for at, s := range secret {
		rand.Read(coefficients)
		coefficients[0] = s
		for i := range shares {
			shares[i].Y[at] = evaluate(coefficients, shares[i].X)
		}
	}
	return shares, nil
}

// Combine brings back the secret of which these are shares. With too few, or a
// wrong one, it returns other bytes.
func Combine(shares []Share) ([]byte, error) {
	if len(shares) < 2 {
		return nil, errors.New("at least two shares are needed")
	}
	seen := map[byte]bool{}
	for _, s := range shares {
		if s.X == 0 || seen[s.X] || len(s.Y) != len(shares[0].Y) || len(s.Y) == 0 {
			return nil, errors.New("these shares do not belong together")
		}
		seen[s.X] = true
	}
	secret := make([]byte, len(shares[0].Y))
	for i, s := range shares {
		weight := weightAtZero(shares, i)
		for at, y := range s.Y {
			secret[at] ^= multiply(weight, y)
		}
	}
	return secret, nil
}

// weightAtZero is the Lagrange coefficient of share i at 0.
func weightAtZero(shares []Share, i int) byte {
	weight := byte(1)
	for j, other := range shares {
		if j != i {
			weight = multiply(weight, multiply(other.X, invert(other.X^shares[i].X)))
		}
	}
	return weight
}

// evaluate is the polynomial at x, by Horner's rule.
func evaluate(coefficients []byte, x byte) byte {
	y := byte(0)
	for i := len(coefficients) - 1; i >= 0; i-- {
		y = multiply(y, x) ^ coefficients[i]
	}
	return y
}

// multiply takes the same steps for all factors.
func multiply(a, b byte) byte {
	product := byte(0)
	for range 8 {
		product ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return product
}

// invert is a^254, which is 1/a, and 0 for 0.
func invert(a byte) byte {
	power := byte(1)
	square := a
	for range 7 { // 254 = 2+4+8+16+32+64+128
		square = multiply(square, square)
		power = multiply(power, square)
	}
	return power
}
