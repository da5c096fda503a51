package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestSecretsAreRecognisedAndRemoved(t *testing.T) {
	key, token := "cl_abcdefgh234567ab_"+strings.Repeat("A", 52), "cs_"+strings.Repeat("B", 52)
	for _, s := range []string{key, token, "see " + key + ".", "x=" + token + "&y", key[:30]} {
		if !HoldsSecret(s) || strings.Contains(Redact(s), "AAAAAAAA") || strings.Contains(Redact(s), "BBBBBBBB") {
			t.Errorf("%s became %s", s, Redact(s))
		}
	}
	for _, s := range []string{"", "wiki", "cl_ab", "cls_session", "mcl_notes", "docs/cs_notes.md", "cl_abcdefgh234567ab"} {
		if HoldsSecret(s) || Redact(s) != s {
			t.Errorf("%q is taken for a secret", s)
		}
	}
}

func TestARefusalNamesItsPolicyAndIsOneKind(t *testing.T) {
	err := fmt.Errorf("export: %w", &DeniedError{Action: AuditExport, Policies: []string{"key-without-scope-audit"}})
	if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "key-without-scope-audit") {
		t.Error(err)
	}
	if err := (&DeniedError{Action: Ask}); !strings.Contains(err.Error(), "default-deny") {
		t.Error(err)
	}
}

func TestRootIsWhoeverStandsBehind(t *testing.T) {
	person := Principal{Kind: User, ID: "u"}
	agent := Principal{Kind: Agent, ID: "a", OnBehalfOf: &person}
	if deep := (Principal{Kind: Agent, ID: "b", OnBehalfOf: &agent}); deep.Root().ID != "u" || person.Root().ID != "u" {
		t.Error(deep.Root())
	}
	loop := Principal{Kind: Agent, ID: "l"}
	loop.OnBehalfOf = &loop
	if loop.Root().ID != "l" {
		t.Error("a loop has another root")
	}
}
