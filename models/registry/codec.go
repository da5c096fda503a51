package registry

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
)

func decodeModel(item store.Item) (Model, error) {
	var m Model
	leftover, err := decode(item.Value, &m)
	m.leftover = leftover
	return m, err
}

// decode reads a value and returns the fields that this version does not know,
// which put writes again.
func decode(data []byte, into any) (map[string]cbor.RawMessage, error) {
	var fields map[string]cbor.RawMessage
	if err := cbor.Unmarshal(data, &fields); err != nil {
		return nil, fmt.Errorf("read a model's entry: %w", err)
	}
	if err := cbor.Unmarshal(data, into); err != nil {
		return nil, fmt.Errorf("read a model's entry: %w", err)
	}
	t := reflect.TypeOf(into).Elem()
	for i := range t.NumField() {
		delete(fields, t.Field(i).Name)
	}
	return fields, nil
}

// encode is deterministic CBOR.
func encode(value any) ([]byte, error) {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, err
	}
	return mode.Marshal(value)
}

// put writes a value in deterministic CBOR together with what decode left over.
func put(u *store.Update, key store.Key, value any, leftover map[string]cbor.RawMessage) error {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return err
	}
	data, err := mode.Marshal(value)
	if err != nil || len(leftover) == 0 {
		u.Put(key, data)
		return err
	}
	fields := map[string]cbor.RawMessage{}
	if err := cbor.Unmarshal(data, &fields); err != nil {
		return err
	}
	for name, raw := range leftover {
		if _, ok := fields[name]; !ok {
			fields[name] = raw
		}
	}
	data, err = mode.Marshal(fields)
	u.Put(key, data)
	return err
}

// printable makes a name from outside safe for one line of text.
func printable(name string) string {
	name = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, name)
	if len(name) > 80 {
		name = strings.ToValidUTF8(name[:80], "") + "…"
	}
	return name
}
