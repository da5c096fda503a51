package machine

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
)

func sampleGroup() *Group {
	tx := store.NewTx()
	tx.Check("S/a", 7)
	tx.Put("H/a\x00\xff", []byte("value"))
	tx.Delete("S/b")
	tx.Append("audit", []byte("leaf"))
	tx.Add("S/n", math.MinInt64, store.NoLimit, time.Hour)
	return &Group{
		Time: time.Unix(1, 5).UTC(), Origins: []Origin{{"n1", 3, 4}, {"n2", math.MaxUint64, 0}},
		Entries: []Entry{{Origin: 0, Seq: 70000, Ops: tx.Ops()}, {Origin: 1, Seq: 1}},
	}
}

func TestGroupIsDeterministicCBOR(t *testing.T) {
	b := sampleGroup().AppendTo(nil)
	var v any
	if err := cbor.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := mode.Marshal(v)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("%v\n%x\n%x", err, again, b)
	}
	g, err := DecodeGroup(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.AppendTo(nil); !bytes.Equal(got, b) {
		t.Errorf("round trip\n%x\n%x", got, b)
	}
	for i := range b {
		if _, err := DecodeGroup(b[:i]); err == nil {
			t.Errorf("cut at %d it is a group", i)
		}
	}
	if _, err := DecodeGroup(append(b, 0)); err == nil {
		t.Error("with a byte more it is a group")
	}
}

// What decodes has one encoding, and nothing makes the decoder fail hard.
func FuzzDecodeGroup(f *testing.F) {
	f.Add(sampleGroup().AppendTo(nil))
	f.Add([]byte{0x84, 1, 0, 0x80, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeGroup(b)
		if err != nil {
			return
		}
		if again := g.AppendTo(nil); !bytes.Equal(again, b) {
			t.Errorf("%x became %x", b, again)
		}
	})
}
