package audit

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/cloister-os/cloister/store"
)

// encoder writes canonical JSON. Members must be written in the order of their
// names; all names are ASCII, so that byte order is the UTF-16 order which RFC
// 8785 asks for.
type encoder struct {
	b   []byte
	err error
}

// encode writes the record. The order of the calls is the sorted order of the
// member names.
func (r *Record) encode() ([]byte, error) {
	e := encoder{b: make([]byte, 0, 640)}
	e.b = append(e.b, `{"action":`...)
	e.text(string(r.Action))
	e.b = append(e.b, `,"actor":`...)
	e.actor(&r.Actor, 0)
	e.member("args_sha256", r.ArgsSHA256)
	e.number("cost_nano_usd", r.CostNanoUSD)
	e.member("decision", r.Decision)
	if len(r.Detail) > 0 {
		e.name("detail")
		e.object(r.Detail, 1)
	}
	e.member("error", r.Error)
	e.member("id", r.ID)
	e.member("intent", r.Intent)
	e.member("kind", string(r.Kind))
	e.member("node", r.Node)
	if len(r.Personal) > 0 {
		e.name("personal")
		e.texts(r.Personal)
	}
	if len(r.Policies) > 0 {
		e.name("policies")
		e.list(len(r.Policies), func(i int) { e.text(r.Policies[i]) })
	}
	e.b = append(e.b, `,"resource":{"id":`...)
	e.text(r.Resource.ID)
	e.b = append(e.b, `,"type":`...)
	e.text(r.Resource.Type)
	e.b = append(e.b, '}')
	e.member("run", r.Run)
	e.member("status", r.Status)
	if len(r.Usage) > 0 {
		e.name("usage")
		e.counts(r.Usage)
	}
	e.member("use_case", r.UseCase)
	e.b = append(e.b, `,"v":1}`...)
	return e.b, e.err
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: %s", store.ErrInvalid, fmt.Sprintf(format, args...))
	}
}

func (e *encoder) actor(a *Actor, depth int) {
	if depth == maxDepth {
		e.fail("an actor acts on behalf of at most %d others", maxDepth)
		return
	}
	e.b = append(e.b, `{"id":`...)
	e.text(a.ID)
	e.b = append(e.b, `,"kind":`...)
	e.text(string(a.Kind))
	if a.OnBehalfOf != nil {
		e.b = append(e.b, `,"on_behalf_of":`...)
		e.actor(a.OnBehalfOf, depth+1)
	}
	e.b = append(e.b, '}')
}

// name begins a member of the record that is not its first.
func (e *encoder) name(n string) {
	e.b = append(e.b, `,"`...)
	e.b = append(e.b, n...)
	e.b = append(e.b, `":`...)
}

func (e *encoder) member(n, s string) {
	if s != "" {
		e.name(n)
		e.text(s)
	}
}

func (e *encoder) number(n string, i int64) {
	if i != 0 {
		e.name(n)
		e.integer(i)
	}
}

func (e *encoder) integer(i int64) {
	if i > maxSafeInt || i < -maxSafeInt {
		e.fail("the number %d is beyond 2^53", i)
		return
	}
	e.b = strconv.AppendInt(e.b, i, 10)
}

func (e *encoder) list(n int, item func(int)) {
	e.b = append(e.b, '[')
	for i := range n {
		if i > 0 {
			e.b = append(e.b, ',')
		}
		item(i)
	}
	e.b = append(e.b, ']')
}

// members writes an object whose names are keys; value writes one value.
func members[V any](e *encoder, m map[string]V, value func(V)) {
	var few [16]string
	keys := few[:0]
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	e.b = append(e.b, '{')
	for i, k := range keys {
		if !validName(k) {
			e.fail("%q is no member name: use lower-case letters, digits and _ . -", k)
			return
		}
		if i > 0 {
			e.b = append(e.b, ',')
		}
		e.b = append(e.b, '"')
		e.b = append(e.b, k...)
		e.b = append(e.b, `":`...)
		value(m[k])
	}
	e.b = append(e.b, '}')
}

func (e *encoder) texts(m map[string]string) { members(e, m, e.text) }
func (e *encoder) counts(m map[string]int64) { members(e, m, e.integer) }

func (e *encoder) object(m map[string]any, depth int) {
	members(e, m, func(v any) { e.value(v, depth) })
}

// validName keeps member names to ASCII that needs no escape.
func validName(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

func (e *encoder) value(v any, depth int) {
	if depth > maxDepth {
		e.fail("detail is nested more than %d deep", maxDepth)
		return
	}
	switch v := v.(type) {
	case nil:
		e.b = append(e.b, "null"...)
	case string:
		e.text(v)
	case bool:
		e.b = strconv.AppendBool(e.b, v)
	case int:
		e.integer(int64(v))
	case int64:
		e.integer(v)
	case []string:
		e.list(len(v), func(i int) { e.text(v[i]) })
	case map[string]any:
		e.object(v, depth+1)
	default:
		e.reflected(reflect.ValueOf(v), depth)
	}
}

// reflected writes the rarer shapes: named strings, other integers, lists, maps.
func (e *encoder) reflected(v reflect.Value, depth int) {
	switch {
	case v.Kind() == reflect.String:
		e.text(v.String())
	case v.Kind() == reflect.Bool:
		e.b = strconv.AppendBool(e.b, v.Bool())
	case v.CanInt():
		e.integer(v.Int())
	case v.CanUint():
		e.integer(int64(min(v.Uint(), maxSafeInt+1)))
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Array:
		e.list(v.Len(), func(i int) { e.value(v.Index(i).Interface(), depth+1) })
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		m := make(map[string]any, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = it.Value().Interface()
		}
		e.object(m, depth+1)
	default:
		e.fail("detail holds a %s; it may hold strings, booleans, integers, lists and maps", v.Type())
	}
}

const hexDigits = "0123456789abcdef"

// text writes a JSON string with the escapes of RFC 8785 section 3.2.2.2.
func (e *encoder) text(s string) {
	if len(s) > maxText {
		if e.err == nil {
			e.err = fmt.Errorf("%w: a text holds at most %d bytes, this one has %d", store.ErrTooLarge, maxText, len(s))
		}
		return
	}
	e.b = append(e.b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		n := 1
		if c >= utf8.RuneSelf {
			var r rune
			if r, n = utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || n > 1 {
				i += n
				continue
			}
		}
		e.b = append(e.b, s[start:i]...)
		e.escape(c)
		i += n
		start = i
	}
	e.b = append(e.b, s[start:]...)
	e.b = append(e.b, '"')
}

// escape writes a byte that may not stand in a JSON string as it is.
func (e *encoder) escape(c byte) {
	switch c {
	case '"', '\\':
		e.b = append(e.b, '\\', c)
	case '\b':
		e.b = append(e.b, `\b`...)
	case '\f':
		e.b = append(e.b, `\f`...)
	case '\n':
		e.b = append(e.b, `\n`...)
	case '\r':
		e.b = append(e.b, `\r`...)
	case '\t':
		e.b = append(e.b, `\t`...)
	default:
		if c >= utf8.RuneSelf {
			e.b = append(e.b, "\ufffd"...)
			return
		}
		e.b = append(e.b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	}
}
