package session

import (
	"testing"

	"github.com/cloister-os/cloister/store/schema"
	"github.com/fxamacker/cbor/v2"
)

// TestARewrittenSessionKeepsWhatANewerProgramWrote: two programs serve one session
// while a cluster is upgraded.
func TestARewrittenSessionKeepsWhatANewerProgramWrote(t *testing.T) {
	newer := schema.MustEncode(struct {
		sessionRow
		Later string `cbor:"later"`
	}{sessionRow{V: 2, User: "u-1"}, "kept"})
	var row sessionRow
	if err := decode(newer, &row); err != nil || row.User != "u-1" {
		t.Fatal(row, err)
	}
	row.Seen++
	var got map[string]any
	if err := cbor.Unmarshal(schema.MustRewrite(newer, row), &got); err != nil || got["later"] != "kept" {
		t.Errorf("%v, %v", got, err)
	}
}
