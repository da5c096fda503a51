package session

import (
	"errors"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"

	"github.com/cloister-os/cloister/auth"
)

// ErrName is the kind of every user name that cannot be one.
var ErrName = errors.New("not a user name")

// ErrMisplacedKey is returned wherever an API key or session token is given as
// something else. It was neither stored nor logged.
var ErrMisplacedKey = errors.New(`an API key or session token was given in the wrong place: send it only as "Authorization: Bearer …", and replace it, for it may have been seen`)

// maxName bounds a user name, in bytes of its canonical form.
const maxName = 128

// Canonical is the one form of a user name: compatibility-composed, case-folded,
// trimmed, with single inner spaces. It runs before throttle, policy and audit, so
// that no spelling of a name is a second identity. Names with invisible or
// control characters are refused.
func Canonical(name string) (string, error) {
	if auth.HoldsSecret(name) {
		return "", ErrMisplacedKey
	}
	if len(name) > 4*maxName {
		return "", ErrName
	}
	canonical := fold(name)
	for range 4 { // folding one character can make another foldable
		if again := fold(canonical); again != canonical {
			canonical = again
			continue
		}
		break
	}
	if canonical == "" || len(canonical) > maxName {
		return "", ErrName
	}
	for _, r := range canonical {
		if r == unicode.ReplacementChar || (r != ' ' && !unicode.IsGraphic(r)) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return "", ErrName
		}
	}
	return canonical, nil
}

func fold(name string) string {
	folded := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name)))
	return strings.Join(strings.Fields(folded), " ")
}
