package session

import (
	"errors"
	"testing"

	"github.com/cloister-os/cloister/auth"
)

// TestAGuesserElsewhereDoesNotKeepOutWhoHasTheCode guesses from one address until
// it is slowed, and completes the setup from another.
func TestAGuesserElsewhereDoesNotKeepOutWhoHasTheCode(t *testing.T) {
	p := newPlace(t)
	code, err := p.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	there, here := WithAddress(t.Context(), "192.0.2.1:1"), WithAddress(t.Context(), "192.0.2.2:1")
	for i := range 8 {
		if _, _, err := p.Setup(there, "AAAAA", "eve", goodPassword); !errors.Is(err, ErrSetupCode) && (i < 5 || !errors.Is(err, auth.ErrThrottled)) {
			t.Fatalf("guess %d: %v", i, err)
		}
	}
	if _, _, err := p.Setup(there, code, "ada", goodPassword); !errors.Is(err, auth.ErrThrottled) {
		t.Errorf("the guesser is not slowed: %v", err)
	}
	if _, _, err := p.Setup(here, code, "ada", goodPassword); err != nil {
		t.Errorf("who has the code is kept out: %v", err)
	}
}
