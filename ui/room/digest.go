package room

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

// digest is what a page says of a source's content: how much there is, and
// questions that it can answer.
type digest struct {
	at     time.Time // the watermark that it was made at
	counts []view.Number
	try    []string
}

// digests remembers the digest of each source for one watermark.
type digests struct {
	mu    sync.Mutex
	known map[string]digest
}

// Bounds of a digest: what is more is said to be at least that many.
const (
	maxCounted = 20_000
	maxDigests = 1000
	maxTried   = 20 // records looked at for a question
)

// streams are the kinds of record that are counted, with their names for people.
var streams = []struct{ stream, name string }{
	{graph.StreamCommit, "commits"}, {graph.StreamPerson, "people"}, {graph.StreamTag, "tags"}, {graph.StreamDocument, "documents"},
}

// of makes a source's digest once for each watermark. Whoever calls it has found
// that the source may be read.
func (c *digests) of(ctx context.Context, st store.Store, source string, at time.Time) (digest, error) {
	if at.IsZero() {
		return digest{}, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.known[source]; ok && d.at.Equal(at) {
		return d, nil
	}
	d := digest{at: at}
	err := st.View(ctx, store.Local, func(snap store.Snapshot) (err error) {
		d.counts, err = counts(snap, source)
		if err == nil {
			d.try, err = try(snap, source)
		}
		return err
	})
	if err != nil {
		return digest{}, err
	}
	if c.known == nil || len(c.known) >= maxDigests {
		c.known = map[string]digest{}
	}
	c.known[source] = d
	return d, nil
}

func counts(snap store.Snapshot, source string) ([]view.Number, error) {
	var list []view.Number
	for _, s := range streams {
		var n int64
		for _, err := range snap.Scan(graph.SpaceRecord.Prefix(source, s.stream), "") {
			if err != nil {
				return nil, err
			}
			if n++; n == maxCounted {
				break
			}
		}
		if n > 0 {
			list = append(list, view.Number{Name: s.name, Value: n, AtLeast: n == maxCounted})
		}
	}
	return list, nil
}

// try makes questions about a file that a commit changed and about a document.
func try(snap store.Snapshot, source string) ([]string, error) {
	r := graph.NewReader(snap, graph.AccessTo(source), nil)
	var out []string
	for _, about := range []struct {
		stream   string
		question func(graph.Record) string
	}{{graph.StreamCommit, askCommit}, {graph.StreamDocument, askDocument}} {
		looked := 0
		for rec, err := range r.Records(source, about.stream) {
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return nil, err
			}
			if q := about.question(rec); q != "" {
				out = append(out, q)
				break
			}
			if looked++; looked == maxTried {
				break
			}
		}
	}
	return out, nil
}

// askCommit asks about a file that the commit's text says it changed.
func askCommit(rec graph.Record) string {
	_, changes, ok := strings.Cut(string(rec.Payload.Inline), "\nChanges:\n")
	if !ok {
		return ""
	}
	for line := range strings.Lines(changes) {
		what, path, ok := strings.Cut(strings.TrimSpace(line), " ")
		if ok && (what == "added" || what == "modified") && len(path) <= 60 {
			return "Who last changed " + path + "?"
		}
	}
	return ""
}

func askDocument(rec graph.Record) string {
	if rec.Title == "" || len(rec.Title) > 60 || strings.ContainsAny(rec.Title, "?\n") {
		return ""
	}
	return "Which document explains " + rec.Title + "?"
}
