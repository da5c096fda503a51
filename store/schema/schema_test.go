package schema

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/fxamacker/cbor/v2"
)

type inner struct {
	Deep string `cbor:"deep"`
}

type today struct {
	V       uint   `cbor:"v"`
	Name    string `cbor:"name"`
	Dropped string `cbor:"dropped,omitempty"`
	inner
}

type tomorrow struct {
	today
	Later []string          `cbor:"later"`
	More  map[string]uint64 `cbor:"more"`
}

type numbered struct {
	V    int    `cbor:"0,keyasint"`
	Name string `cbor:"1,keyasint,omitempty"`
	Back int    `cbor:"-1,keyasint"`
}

type numberedTomorrow struct {
	numbered
	Later string `cbor:"7,keyasint"`
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	b, err := Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAnUnknownFieldSurvivesARewrite plays the older program.
func TestAnUnknownFieldSurvivesARewrite(t *testing.T) {
	was := tomorrow{today{V: 2, Name: "a", Dropped: "x", inner: inner{"d"}}, []string{"b"}, map[string]uint64{"n": 1 << 60}}
	var mine today
	if err := cbor.Unmarshal(encode(t, was), &mine); err != nil {
		t.Fatal(err)
	}
	mine.Name, mine.Dropped = "changed", ""
	b, err := Rewrite(encode(t, was), mine)
	if err != nil {
		t.Fatal(err)
	}
	var is tomorrow
	if err := cbor.Unmarshal(b, &is); err != nil {
		t.Fatal(err)
	}
	want := was
	want.Name, want.Dropped = "changed", ""
	if !reflect.DeepEqual(is, want) {
		t.Errorf("got %+v, want %+v", is, want)
	}
	if again := encode(t, is); !bytes.Equal(again, b) {
		t.Error("a rewritten value has another encoding than a new one")
	}
}

func TestNumberedFieldsSurviveToo(t *testing.T) {
	was := encode(t, numberedTomorrow{numbered{V: 1, Name: "a", Back: 3}, "z"})
	b, err := Rewrite(was, &numbered{V: 1, Back: 4})
	if err != nil {
		t.Fatal(err)
	}
	var is numberedTomorrow
	if err := cbor.Unmarshal(b, &is); err != nil || is.Later != "z" || is.Name != "" || is.Back != 4 {
		t.Errorf("%+v, %v", is, err)
	}
}

func TestWhatHasNothingUnknownIsEncodedAsNew(t *testing.T) {
	v := today{V: 1, Name: "b"}
	for _, old := range [][]byte{nil, encode(t, today{V: 1, Name: "a", Dropped: "x"})} {
		if b, err := Rewrite(old, v); err != nil || !bytes.Equal(b, encode(t, v)) {
			t.Errorf("%x, %v", b, err)
		}
	}
	if _, err := Rewrite([]byte{1}, v); err == nil {
		t.Error("a number was rewritten as a struct")
	}
}

// A value that is no map has no field to keep: what is read as nothing is written anew.
func TestWhatIsNoMapIsReplaced(t *testing.T) {
	row := struct {
		V uint `cbor:"v"`
	}{1}
	for _, old := range [][]byte{nil, {0xff}, MustEncode(7)} {
		if got := MustRewrite(old, row); !bytes.Equal(got, MustEncode(row)) {
			t.Errorf("%x in place of %x", got, old)
		}
	}
}
