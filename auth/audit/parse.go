package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cloister-os/cloister/auth"
)

// wireRecord is a leaf as encoding/json reads it.
type wireRecord struct {
	V        int               `json:"v"`
	ID       string            `json:"id"`
	Kind     Kind              `json:"kind"`
	Actor    wireActor         `json:"actor"`
	Action   auth.Action       `json:"action"`
	Resource wireResource      `json:"resource"`
	Decision string            `json:"decision"`
	Policies []string          `json:"policies"`
	Args     string            `json:"args_sha256"`
	Run      string            `json:"run"`
	UseCase  string            `json:"use_case"`
	Detail   map[string]any    `json:"detail"`
	Intent   string            `json:"intent"`
	Status   string            `json:"status"`
	Error    string            `json:"error"`
	Cost     int64             `json:"cost_nano_usd"`
	Usage    map[string]int64  `json:"usage"`
	Personal map[string]string `json:"personal"`
	Node     string            `json:"node"`
}

type wireActor struct {
	Kind       auth.Kind  `json:"kind"`
	ID         string     `json:"id"`
	OnBehalfOf *wireActor `json:"on_behalf_of"`
}

type wireResource struct {
	Type string `json:"type"`
	ID   string `json:"id"`
}

func (w *wireActor) actor() Actor {
	a := Actor{Kind: w.Kind, ID: w.ID}
	if w.OnBehalfOf != nil {
		o := w.OnBehalfOf.actor()
		a.OnBehalfOf = &o
	}
	return a
}

// ParseRecord reads a leaf. Members that it does not know are passed over: a
// newer node may have written them. Numbers in Detail become int64.
func ParseRecord(leaf []byte) (Record, error) {
	d := json.NewDecoder(bytes.NewReader(leaf))
	d.UseNumber()
	var w wireRecord
	if err := d.Decode(&w); err != nil {
		return Record{}, fmt.Errorf("malformed: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Record{}, errors.New("malformed: more than one value")
	}
	if w.V < 1 {
		return Record{}, errors.New("malformed: no version")
	}
	r := Record{
		ID: w.ID, Kind: w.Kind, Actor: w.Actor.actor(), Action: w.Action,
		Resource: Resource{Type: w.Resource.Type, ID: w.Resource.ID},
		Decision: w.Decision, Policies: w.Policies, ArgsSHA256: w.Args, Run: w.Run, UseCase: w.UseCase,
		Detail: w.Detail, Intent: w.Intent, Status: w.Status, Error: w.Error, CostNanoUSD: w.Cost,
		Usage: w.Usage, Personal: w.Personal, Node: w.Node,
	}
	for k, v := range r.Detail {
		r.Detail[k] = integers(v)
	}
	return r, nil
}

// integers turns JSON numbers into int64, where they are.
func integers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		return v.String()
	case []any:
		for i := range v {
			v[i] = integers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = integers(v[k])
		}
	}
	return v
}
