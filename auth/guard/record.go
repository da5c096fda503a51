package guard

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
)

// The statuses of an outcome.
const (
	StatusOK      = "ok"
	StatusFailed  = "failed"
	StatusInDoubt = "in-doubt"
)

// maxErrorBytes bounds an outcome's error.
const maxErrorBytes = 500

// record is what every record of the request says.
func (g *Guard) record(req Request, kind audit.Kind) (audit.Record, error) {
	digest, err := digest(req.Args)
	if err != nil {
		return audit.Record{}, fmt.Errorf("%s cannot be recorded, so it is refused: its arguments: %w", req.Action, err)
	}
	return audit.Record{
		Kind: kind, Actor: audit.ActorOf(shortened(req.Principal, 0)), Action: req.Action,
		Resource:   audit.Resource{Type: req.Resource.Type, ID: req.Resource.ID},
		ArgsSHA256: digest, Run: req.Run, UseCase: req.UseCase, Detail: clean(req.Detail), Node: g.node,
	}, nil
}

// shortened cuts a chain of delegation that is too long to be recorded; policy
// has refused it.
func shortened(p auth.Principal, depth int) auth.Principal {
	if p.Kind == "" {
		p.Kind = "Unknown"
	}
	if p.OnBehalfOf == nil {
		return p
	}
	if depth == auth.MaxDelegation {
		p.OnBehalfOf = nil
		return p
	}
	next := shortened(*p.OnBehalfOf, depth+1)
	p.OnBehalfOf = &next
	return p
}

func (g *Guard) outcome(p *Permit, out Outcome) audit.Record {
	req := p.request
	return audit.Record{
		Kind: audit.Outcome, Intent: p.id, Actor: audit.ActorOf(req.Principal), Action: req.Action,
		Resource: audit.Resource{Type: req.Resource.Type, ID: req.Resource.ID},
		Run:      req.Run, UseCase: req.UseCase, Detail: clean(out.Detail), Node: g.node,
		Status: out.Status, Error: oneLine(out.Error), CostNanoUSD: out.Cost, Usage: out.Usage,
	}
}

func oneLine(s string) string {
	s = strings.Join(strings.Fields(auth.Redact(s)), " ")
	if len(s) > maxErrorBytes {
		s = strings.ToValidUTF8(s[:maxErrorBytes], "") + "…"
	}
	return s
}

// clean removes API keys that were pasted where a fact belongs.
func clean(detail map[string]any) map[string]any {
	if len(detail) == 0 {
		return nil
	}
	out := make(map[string]any, len(detail))
	for k, v := range detail {
		out[k] = cleanValue(v)
	}
	return out
}

func cleanValue(v any) any {
	switch v := v.(type) {
	case string:
		return auth.Redact(v)
	case []string:
		list := make([]string, len(v))
		for i, s := range v {
			list[i] = auth.Redact(s)
		}
		return list
	case map[string]any:
		return clean(v)
	}
	return v
}

// digest is the SHA-256 of the arguments as JSON with sorted names, in hex; ""
// for none.
func digest(args any) (string, error) {
	if args == nil {
		return "", nil
	}
	b, err := json.Marshal(args)
	if err != nil {
		return "", err
	}
	var plain any
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&plain); err != nil {
		return "", err
	}
	var canonical bytes.Buffer
	enc := json.NewEncoder(&canonical)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain); err != nil {
		return "", err
	}
	sum := sha256.Sum256(bytes.TrimSuffix(canonical.Bytes(), []byte("\n")))
	return hex.EncodeToString(sum[:]), nil
}

// attribution says whom a request's cost is for.
func attribution(req Request) budget.Attribution {
	a := budget.Attribution{UseCase: useCase(req), Person: req.Principal.Root().ID, Run: req.Run}
	if req.Principal.Kind == auth.Agent {
		a.Agent = req.Principal.ID
	}
	if req.Resource.Type == "Model" {
		a.Model = req.Resource.ID
	}
	return a
}
