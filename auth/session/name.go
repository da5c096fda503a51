package session

import (
	"errors"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/people"
)

// ErrName is the kind of every user name that cannot be one.
var ErrName = errors.New("not a user name")

// ErrMisplacedKey is returned wherever an API key or session token is given as
// something else. It was neither stored nor logged.
var ErrMisplacedKey = errors.New(`an API key or session token was given in the wrong place: send it only as "Authorization: Bearer …", and replace it, for it may have been seen`)

// Canonical is the one form of a user name; see people.Canonical.
func Canonical(name string) (string, error) {
	if auth.HoldsSecret(name) {
		return "", ErrMisplacedKey
	}
	canonical, ok := people.Canonical(name)
	if !ok {
		return "", ErrName
	}
	return canonical, nil
}
