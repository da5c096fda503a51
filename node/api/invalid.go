package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/node/api/wire"
)

// Bounds of one answer: how many things that are wrong it names, and in how many
// bytes each.
const (
	maxFields = 20
	maxField  = 300
)

// invalid turns what huma says of a request that cannot be into a problem of
// ours. The value that was sent is left out: it may be a password, or a key in
// the wrong place.
func invalid(_ huma.Context, _ string, v any) (any, error) {
	m, ok := v.(*huma.ErrorModel)
	if !ok {
		return v, nil
	}
	p := problem(m.Status, "Something in the request is not right.", "")
	if m.Status >= http.StatusInternalServerError {
		p.Title = "Something went wrong inside."
		return p, nil
	}
	p.Detail = sentence(errors.New(short(m.Detail)))
	for i, e := range m.Errors {
		if i == maxFields {
			break
		}
		f := wire.ProblemField{Message: short(e.Message), Location: short(e.Location)}
		if auth.HoldsSecret(fmt.Sprint(e.Value) + " " + e.Location + " " + e.Message) {
			f.Message = session.ErrMisplacedKey.Error()
		}
		p.Errors = append(p.Errors, f)
	}
	if m.Status == http.StatusRequestEntityTooLarge {
		p.Title, p.Detail = "Too large.", strings.TrimSuffix(p.Detail, ".")+": send less."
	}
	if len(p.Errors) > 0 {
		first := p.Errors[0]
		p.Detail = sentence(fmt.Errorf("%s: %s", first.Location, first.Message))
		if first.Location == "" || first.Location == "body" {
			p.Detail = sentence(errors.New(first.Message))
		}
	}
	return p, nil
}

// short is a text without secrets and of bounded length: a field's name is the
// caller's too.
func short(s string) string {
	s = auth.Redact(s)
	if len(s) > maxField {
		return strings.ToValidUTF8(s[:maxField], "") + "…"
	}
	return s
}
