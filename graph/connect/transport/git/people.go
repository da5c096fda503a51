package git

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/graph"
)

// maxNames bounds the spellings kept of one person's name.
const maxNames = 20

// person is an author: what the reachable commits say of them, and nothing else,
// so that a name goes with the last commit that used it.
type person struct {
	V     uint     `cbor:"0,keyasint"`
	Rule  string   `cbor:"1,keyasint"`
	Mail  string   `cbor:"2,keyasint,omitempty"`
	Names []string `cbor:"3,keyasint"` // as spelled, the one used last first

	used map[string]int64 // when each name was used last
}

// keyOf is what tells people apart: the mail address; or, where that is missing
// or shared by many, the name with it.
func keyOf(name, mail string) string {
	mail = strings.ToLower(strings.TrimSpace(mail))
	local, domain, ok := strings.Cut(mail, "@")
	shared := !ok || local == "" || strings.ContainsAny(mail, " <") || domain == "" || domain == "localhost" || domain == "example.invalid" ||
		local == "noreply" || local == "no-reply" || local == "root" || local == "donotreply"
	if shared {
		return graph.NativeKey(strings.ToLower(strings.TrimSpace(name)) + " <" + mail + ">")
	}
	return graph.NativeKey(mail)
}

// meet gathers the authors of all reachable commits.
func (s *scanner) meet() {
	s.people = map[string]*person{}
	for _, n := range s.order {
		p := s.people[n.author]
		if p == nil {
			p = &person{V: cursorV, Rule: RulePerson, used: map[string]int64{}}
			if personal(n.author) {
				p.Mail = n.author
			}
			s.people[n.author] = p
		}
		if n.name != "" {
			p.used[n.name] = max(p.used[n.name], n.authorS)
		}
	}
	for _, p := range s.people {
		p.Names = slices.SortedFunc(maps.Keys(p.used), func(a, b string) int {
			return cmp.Or(cmp.Compare(p.used[b], p.used[a]), strings.Compare(a, b))
		})
		p.Names = p.Names[:min(len(p.Names), maxNames)]
	}
}

// personal reports whether a key is a mail address of one person.
func personal(key string) bool { return !strings.Contains(key, " <") }

// personID is the entity of a person: the same in every source that names them
// by the same mail address.
func personID(source, key string) graph.EntityID {
	if personal(key) {
		return graph.NewEntityID(graph.NamespaceMail, key)
	}
	return graph.NewEntityID("git.author", source, key)
}

// knownPeople are those that earlier scans wrote, as they were.
func (s *scanner) knownPeople(ctx context.Context) (map[string][]byte, error) {
	known := map[string][]byte{}
	err := s.sink.LoadCursor(ctx, func(rest []string, value []byte) error {
		known[rest[0]] = value
		return nil
	}, cursorPerson)
	return known, err
}

func (s *scanner) writePeople(ctx context.Context) error {
	known, err := s.knownPeople(ctx)
	if err != nil {
		return err
	}
	s.meet()
	s.sink.Stage("people", len(s.people))
	for _, key := range slices.Sorted(maps.Keys(s.people)) {
		s.sink.Done(1)
		value, err := encode(s.people[key])
		if err != nil {
			return err
		}
		if bytes.Equal(value, known[key]) {
			continue
		}
		if err := s.writePerson(ctx, key, s.people[key], value); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) writePerson(ctx context.Context, key string, who *person, cursor []byte) error {
	var t payload
	a := graph.Assertion{Record: graph.Record{ID: s.id(graph.StreamPerson, key), Entity: personID(s.src.Name, key), Type: graph.Person,
		Rule: RulePerson, Title: first(who.Names, who.Mail, key)}}
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
	return s.sink.Put(ctx, a, graph.CursorWrite{Parts: []string{cursorPerson, key}, Value: cursor})
}

// removePeople removes those of whom no commit is left.
func (s *scanner) removePeople(ctx context.Context) error {
	known, err := s.knownPeople(ctx)
	if err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(known)) {
		if s.people[key] != nil {
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
