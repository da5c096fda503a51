// Package schema encodes the values of the rooms so that programs of two formats
// can work on them side by side.
//
// It promises: one value has one encoding (deterministic CBOR); a value that is
// rewritten keeps the fields that this program does not know, so an older program
// never drops what a newer one wrote. What a field means never changes; a new
// meaning gets a new field, written only once the cluster format allows it.
//
// It may import nothing of Cloister.
package schema

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// ErrForm means that a value is not a map, as every value of a struct is.
var ErrForm = errors.New("not a value of this kind")

// mode is core deterministic encoding (RFC 8949 section 4.2).
var mode = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// Encode encodes a new value.
func Encode(v any) ([]byte, error) { return mode.Marshal(v) }

// MustEncode is Encode of what always encodes: a struct of numbers, texts, bytes and
// lists or maps of them.
func MustEncode(v any) []byte {
	b, err := mode.Marshal(v)
	if err != nil {
		panic(err) // the caller's type is at fault, whatever its value
	}
	return b
}

// MustRewrite is Rewrite of what always encodes. An old value that is no map is
// replaced as a whole: nothing of it can be kept.
func MustRewrite(old []byte, v any) []byte {
	b, err := Rewrite(old, v)
	if err != nil {
		return MustEncode(v)
	}
	return b
}

// Rewrite encodes v, a struct, in place of the value old that it was decoded from:
// fields of old that v's type does not have are kept as they are. An empty old is
// as if there were none.
func Rewrite(old []byte, v any) ([]byte, error) {
	b, err := mode.Marshal(v)
	if err != nil || len(old) == 0 {
		return b, err
	}
	var before map[any]cbor.RawMessage
	if err := cbor.Unmarshal(old, &before); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	known := fields(reflect.TypeOf(v))
	strange := map[any]cbor.RawMessage{}
	for name, value := range before {
		if !known[name] {
			strange[name] = value
		}
	}
	if len(strange) == 0 {
		return b, nil
	}
	var now map[any]cbor.RawMessage
	if err := cbor.Unmarshal(b, &now); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	for name, value := range strange {
		now[name] = value
	}
	return mode.Marshal(now)
}

// fields are the names, or numbers, of a struct's fields as CBOR decodes them.
func fields(t reflect.Type) map[any]bool {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	out := map[any]bool{}
	if t.Kind() != reflect.Struct {
		return out
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("cbor"), ",")
		switch {
		case name == "-" || !f.IsExported() && !f.Anonymous:
		case f.Anonymous && name == "":
			for inner := range fields(f.Type) {
				out[inner] = true
			}
		case strings.Contains(options, "keyasint"):
			if n, err := strconv.ParseInt(name, 10, 64); err == nil && n < 0 {
				out[n] = true
			} else if err == nil {
				out[uint64(n)] = true
			}
		case name == "":
			out[f.Name] = true
		default:
			out[name] = true
		}
	}
	return out
}
