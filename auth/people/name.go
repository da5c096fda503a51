package people

import (
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// maxName bounds a name that people sign in with, in bytes of its canonical form.
const maxName = 128

// Canonical is the one form of a name that somebody signs in with:
// compatibility-composed, case-folded, trimmed, with single inner spaces. It runs
// before throttle, policy and audit, for local accounts and directories alike, so
// that no spelling of a name is a second identity. ok is false for what cannot be
// a name, such as one with invisible or control characters.
func Canonical(name string) (canonical string, ok bool) {
	if len(name) > 4*maxName {
		return "", false
	}
	canonical = fold(name)
	for range 4 { // folding one character can make another foldable
		if again := fold(canonical); again != canonical {
			canonical = again
			continue
		}
		break
	}
	if canonical == "" || len(canonical) > maxName {
		return "", false
	}
	for _, r := range canonical {
		if r == unicode.ReplacementChar || (r != ' ' && !unicode.IsGraphic(r)) || unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
			return "", false
		}
	}
	return canonical, true
}

func fold(name string) string {
	folded := norm.NFKC.String(cases.Fold().String(norm.NFKC.String(name)))
	return strings.Join(strings.Fields(folded), " ")
}
