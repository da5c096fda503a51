package roster

import (
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
	"github.com/cloister-os/cloister/store/storetest"
)

// TestAnEntryKeepsWhatANewerProgramWrote when an older one moves the node.
func TestAnEntryKeepsWhatANewerProgramWrote(t *testing.T) {
	s := storetest.NewModel(nil)
	newer, err := schema.Encode(struct {
		entry
		Later string `cbor:"99,keyasint"`
	}{entry{V: 2, Address: "a:1"}, "kept"})
	if err != nil {
		t.Fatal(err)
	}
	tx := store.NewTx()
	tx.Put(nodes.Key("node-2"), newer)
	if _, err := s.Apply(t.Context(), tx); err != nil {
		t.Fatal(err)
	}
	_, err = s.Update(t.Context(), func(u *store.Update) error {
		e, _, err := get(u, "node-2")
		if err != nil {
			return err
		}
		e.Address = "b:1"
		return put(u, "node-2", e)
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.View(t.Context(), store.Local, func(v store.Snapshot) error {
		item, err := v.Get(nodes.Key("node-2"))
		if err != nil {
			return err
		}
		var all map[int]any
		if err := cbor.Unmarshal(item.Value, &all); err != nil || all[99] != "kept" || all[2] != "b:1" {
			t.Errorf("%v, %v", all, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
