package files

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/extract"
	"github.com/cloister-os/cloister/store/blob"
)

// The cursor: one entry for each file that was read or left out, and one for the
// folder itself.
const (
	cursorFile = "file"
	cursorRoot = "root"
)

// entry says how a file was when it was read.
type entry struct {
	V       uint      `cbor:"0,keyasint"`
	Path    []byte    `cbor:"1,keyasint"` // as the system has it
	Stamp   stamp     `cbor:"2,keyasint"`
	Hash    blob.Hash `cbor:"3,keyasint,omitzero"`
	Rules   string    `cbor:"4,keyasint"`           // extractor and mapping rule
	Skipped string    `cbor:"5,keyasint,omitempty"` // why it was left out
	Racy    bool      `cbor:"6,keyasint,omitempty"` // its times cannot be trusted: it is read each time
}

const cursorV = 1

// rules names everything that decides what a file's bytes become.
const rules = extract.Version + " " + Rule

func load(ctx context.Context, sink *connect.Sink) (map[string]entry, error) {
	known := map[string]entry{}
	err := sink.LoadCursor(ctx, func(rest []string, value []byte) error {
		e := entry{}
		if err := cbor.Unmarshal(value, &e); err != nil {
			return fmt.Errorf("the cursor of file %q: %w", rest, err)
		}
		known[rest[0]] = e
		return nil
	}, cursorFile)
	return known, err
}

func (e entry) write(native string) (graph.CursorWrite, error) {
	e.V, e.Rules = cursorV, rules
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return graph.CursorWrite{}, err
	}
	b, err := mode.Marshal(e)
	return graph.CursorWrite{Parts: []string{cursorFile, native}, Value: b}, err
}

// mounted refuses a folder that has become empty by becoming another one: what
// was mounted there is not.
func mounted(ctx context.Context, root *os.Root, src graph.Source, sink *connect.Sink, found int, known map[string]entry) error {
	info, err := root.Stat(".")
	if err != nil {
		return fmt.Errorf("look at the folder %s: %w", src.Path, err)
	}
	now := fmt.Sprint(stampOf(info).Device, " ", stampOf(info).Inode)
	was := ""
	err = sink.LoadCursor(ctx, func(_ []string, value []byte) error {
		was = string(value)
		return nil
	}, cursorRoot)
	if err != nil {
		return err
	}
	if found == 0 && len(known) > 0 && was != now {
		return fmt.Errorf("the folder %s is empty and not the one that was read before: is what belongs there mounted? Nothing was removed", src.Path)
	}
	if was == now {
		return nil
	}
	return sink.Cursor(ctx, graph.CursorWrite{Parts: []string{cursorRoot}, Value: []byte(now)})
}

func sorted(m map[string]entry) []string { return slices.Sorted(maps.Keys(m)) }
