package proof

import (
	"bytes"
	"encoding/json"
	"iter"
)

type member struct{ name, value []byte }

// members yields the members of an object without white space, as they stand.
// A member with a nil value ends an object that it cannot read.
func members(b []byte) iter.Seq2[int, member] {
	return func(yield func(int, member) bool) {
		if len(b) < 2 || b[0] != '{' || b[1] == '}' {
			return
		}
		b = b[1:]
		for i := 0; ; i++ {
			n := valueEnd(b)
			if n < 3 || b[0] != '"' || n >= len(b) || b[n] != ':' {
				yield(i, member{})
				return
			}
			m := member{name: b[1 : n-1]}
			b = b[n+1:]
			n = valueEnd(b)
			if n == 0 || n >= len(b) || b[n] != ',' && b[n] != '}' {
				yield(i, member{})
				return
			}
			m.value = b[:n]
			if !yield(i, m) || b[n] == '}' {
				return
			}
			b = b[n+1:]
		}
	}
}

// valueEnd is the length of the JSON value that b begins with, 0 for none.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			n := stringEnd(b[i:])
			if n == 0 {
				return 0
			}
			if i += n - 1; depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ':':
			if depth == 0 {
				return i
			}
		}
	}
	return 0
}

// stringEnd is the length of the JSON string that b begins with, 0 for none.
func stringEnd(b []byte) int {
	for i := 1; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return 0
		}
		i += n
		slashes := 0
		for b[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return i + 1
		}
	}
}

// plain is a value as a table shows it: a string without its quotation marks,
// anything else as it stands.
func plain(value []byte) []byte {
	if len(value) < 2 || value[0] != '"' {
		return value
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return value[1 : len(value)-1]
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return value
	}
	return []byte(s)
}

// leaf is what tables and counts need of a record. Its fields point into it.
type leaf struct {
	id, kind, action, actorKind, actorID, onBehalfOf, resourceType, resourceID,
	decision, policies, args, run, useCase, detail, intent,
	status, err, cost, usage, personal, node []byte
}

// parseLeaf takes a record apart; what it does not know it leaves out.
func parseLeaf(b []byte) leaf {
	var l leaf
	for _, m := range members(b) {
		switch string(m.name) {
		case "actor":
			l.actor(m.value)
		case "resource":
			for _, r := range members(m.value) {
				switch string(r.name) {
				case "type":
					l.resourceType = plain(r.value)
				case "id":
					l.resourceID = plain(r.value)
				}
			}
		case "personal":
			l.personal = m.value
		default:
			if field := l.field(m.name); field != nil {
				*field = plain(m.value)
			}
		}
	}
	return l
}

// field is where a member of the record with this name goes; nil = nowhere.
func (l *leaf) field(name []byte) *[]byte {
	for _, f := range [...]struct {
		name string
		to   *[]byte
	}{
		{"id", &l.id}, {"kind", &l.kind}, {"action", &l.action}, {"decision", &l.decision}, {"policies", &l.policies},
		{"args_sha256", &l.args}, {"run", &l.run}, {"use_case", &l.useCase}, {"detail", &l.detail}, {"intent", &l.intent},
		{"status", &l.status}, {"error", &l.err}, {"cost_nano_usd", &l.cost}, {"usage", &l.usage}, {"node", &l.node},
	} {
		if string(name) == f.name {
			return f.to
		}
	}
	return nil
}

func (l *leaf) actor(value []byte) {
	for _, a := range members(value) {
		switch string(a.name) {
		case "kind":
			l.actorKind = plain(a.value)
		case "id":
			l.actorID = plain(a.value)
		case "on_behalf_of":
			l.onBehalfOf = plain(a.value)
		}
	}
}
