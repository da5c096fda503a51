package git

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/graph"
)

// maxNames bounds the spellings kept of one person's name.
const maxNames = 20

// person is an author, by mail address.
type person struct {
	V     uint     `cbor:"0,keyasint"`
	Rule  string   `cbor:"1,keyasint"`
	Mail  string   `cbor:"2,keyasint,omitempty"`
	Names []string `cbor:"3,keyasint"` // as spelled, the one used last first
	LastS int64    `cbor:"4,keyasint"` // when it was used

	changed bool
}

// people are the authors by key.
type people map[string]*person

// keyOf is what tells people apart: the mail address; or, where that is missing
// or shared by many, the name with it.
func keyOf(name, mail string) (key string, personal bool) {
	mail = strings.ToLower(strings.TrimSpace(mail))
	local, domain, ok := strings.Cut(mail, "@")
	shared := !ok || local == "" || strings.ContainsAny(mail, " <") || domain == "" || domain == "localhost" || domain == "example.invalid" ||
		local == "noreply" || local == "no-reply" || local == "root" || local == "donotreply"
	if shared {
		return graph.NativeKey(strings.ToLower(strings.TrimSpace(name)) + " <" + mail + ">"), false
	}
	return graph.NativeKey(mail), true
}

// meet notes the author of a commit and returns their key.
func (p *people) meet(c *commit) string {
	if *p == nil {
		*p = people{}
	}
	key, personal := keyOf(c.author, c.mail)
	who := (*p)[key]
	if who == nil {
		who = &person{changed: true}
		(*p)[key] = who
	}
	if personal {
		who.Mail = key
	}
	at := slices.Index(who.Names, c.author)
	switch {
	case c.author == "" || at == 0:
	case at < 0 && len(who.Names) >= maxNames:
	case c.authored.Unix() >= who.LastS:
		if at > 0 {
			who.Names = slices.Delete(who.Names, at, at+1)
		}
		who.Names, who.changed = append([]string{c.author}, who.Names...), true
	case at < 0:
		who.Names, who.changed = append(who.Names, c.author), true
	}
	who.LastS = max(who.LastS, c.authored.Unix())
	return key
}

// personID is the entity of a person: the same in every source that names them
// by the same mail address.
func personID(source, key string) graph.EntityID {
	if !strings.Contains(key, " <") {
		return graph.NewEntityID(graph.NamespaceMail, key)
	}
	return graph.NewEntityID("git.author", source, key)
}

func (s *scanner) loadPeople(ctx context.Context) error {
	s.people = people{}
	return s.sink.LoadCursor(ctx, func(rest []string, value []byte) error {
		p := &person{}
		if err := cbor.Unmarshal(value, p); err != nil {
			return fmt.Errorf("the cursor of person %q: %w", rest, err)
		}
		p.changed = p.Rule != RulePerson
		s.people[rest[0]] = p
		return nil
	}, cursorPerson)
}

func (s *scanner) writePeople(ctx context.Context) error {
	s.sink.Stage("people", len(s.people))
	for _, key := range slices.Sorted(maps.Keys(s.people)) {
		s.sink.Done(1)
		if who := s.people[key]; who.changed {
			if err := s.writePerson(ctx, key, who); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *scanner) writePerson(ctx context.Context, key string, who *person) error {
	var t payload
	a := graph.Assertion{Record: graph.Record{ID: s.id(graph.StreamPerson, key), Entity: personID(s.src.Name, key), Type: graph.Person,
		Rule: RulePerson, Title: first(who.Names, who.Mail, key), TimeNs: who.LastS * 1e9}}
	for _, name := range who.Names {
		a.Properties = append(a.Properties, graph.PropertyClaim{Property: graph.Name, Value: name, Span: t.line("Name: ", name)})
	}
	if who.Mail != "" {
		a.Properties = append(a.Properties, graph.PropertyClaim{Property: graph.Mail, Value: who.Mail, Span: t.line("Mail: ", who.Mail)})
		a.Identifiers = append(a.Identifiers, graph.IdentifierClaim{Identifier: graph.Identifier{Namespace: graph.NamespaceMail, Value: who.Mail}})
	}
	if len(a.Properties) == 0 {
		a.Properties = append(a.Properties, graph.PropertyClaim{Property: graph.Name, Value: key, Span: t.line("Name: ", key)})
	}
	var err error
	if a.Record.Payload, err = s.sink.Content(ctx, t.bytes()); err != nil {
		return err
	}
	who.V, who.Rule = cursorV, RulePerson
	value, err := encode(who)
	if err != nil {
		return err
	}
	return s.sink.Put(ctx, a, graph.CursorWrite{Parts: []string{cursorPerson, key}, Value: value})
}

// removePeople removes those of whom no commit is left.
func (s *scanner) removePeople(ctx context.Context, alive map[string]bool) error {
	for _, key := range slices.Sorted(maps.Keys(s.people)) {
		if alive[key] {
			continue
		}
		cursor := graph.CursorWrite{Parts: []string{cursorPerson, key}}
		if err := s.sink.Delete(ctx, s.id(graph.StreamPerson, key), cursor); err != nil {
			return err
		}
	}
	return nil
}

func first(list []string, others ...string) string {
	for _, s := range append(slices.Clone(list), others...) {
		if s != "" {
			return s
		}
	}
	return ""
}
