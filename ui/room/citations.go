package room

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type citations struct{ *Rooms }

var _ ui.Citations = citations{}

// Bounds of what a citation's page shows.
const (
	aroundBytes = 24 << 10 // before and after the cited bytes
	maxCited    = 64 << 10
	waitCited   = 5 * time.Second // for a version that this node has not applied yet
)

// Open implements ui.Citations. The cited version is read under the rights of
// now, and that it was read goes on record.
func (s citations) Open(ctx context.Context, p auth.Principal, c ui.Cite) (view.Cited, error) {
	id, err := graph.ParseRecordID(c.Record)
	if err != nil || id.Source != c.Source || c.End-c.Start > maxCited {
		return view.Cited{}, store.ErrNotFound
	}
	st, err := s.cfg.Sources.Get(ctx, p, c.Source)
	if err != nil {
		return view.Cited{}, connect.RefusedFirst(ctx, s.cfg.Door, p, auth.SourceRead, c.Source, err)
	}
	ctx, cancel := context.WithTimeout(ctx, waitCited)
	defer cancel()
	var out view.Cited
	req := guard.Request{Principal: p, Action: auth.SourceRead, Resource: graph.SourceResource(st.Source), Args: c, Detail: map[string]any{"what": "citation"}}
	err = s.cfg.Door.Read(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.SourceRead, graph.SourceResource(st.Source)); err != nil {
			return guard.Outcome{}, err
		}
		var err error
		out, err = s.read(ctx, st.Source, id, c)
		return guard.Outcome{Usage: map[string]int64{"bytes": int64(len(out.Before) + len(out.Marked) + len(out.After))}}, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return view.Cited{}, store.ErrNotFound
	}
	if err != nil {
		return view.Cited{}, err
	}
	return out, nil
}

func (s citations) read(ctx context.Context, src graph.Source, id graph.RecordID, c ui.Cite) (view.Cited, error) {
	var out view.Cited
	var cited graph.Content
	err := s.cfg.Store.View(ctx, store.At(store.Version(c.Version)), func(snap store.Snapshot) (err error) {
		if was, err := graph.Was(snap, src); err != nil || !was {
			return errors.Join(err, store.ErrNotFound)
		}
		out, cited, err = s.at(snap, id, c)
		return err
	})
	if err != nil {
		return out, err
	}
	err = s.cfg.Store.View(ctx, store.Local, func(snap store.Snapshot) error {
		rec, err := graph.NewReader(snap, graph.AccessTo(id.Source), s.cfg.Blobs).Record(id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			out.Gone = true
			return nil
		case err != nil:
			return err
		}
		if now := content(rec); now.Hash != cited.Hash {
			out.Changed, out.Newer = true, rec.Time()
		}
		return nil
	})
	return out, err
}

// content is what citations of a record are ranges of.
func content(rec graph.Record) graph.Content {
	if !rec.Text.IsZero() {
		return rec.Text
	}
	return rec.Payload
}

// at reads the cited bytes and what stands around them from the cited version.
func (s citations) at(snap store.Snapshot, id graph.RecordID, c ui.Cite) (view.Cited, graph.Content, error) {
	r := graph.NewReader(snap, graph.AccessTo(id.Source), s.cfg.Blobs)
	rec, err := r.Record(id)
	if err != nil {
		return view.Cited{}, graph.Content{}, err
	}
	in := content(rec)
	if c.End > in.Size {
		return view.Cited{}, in, fmt.Errorf("%s has %d bytes: %w", id, in.Size, store.ErrNotFound)
	}
	from, to := max(0, c.Start-aroundBytes), min(in.Size, c.End+aroundBytes)
	b, err := r.Range(in, int(from), int(to))
	if err != nil {
		return view.Cited{}, in, err
	}
	marked := b[c.Start-from : c.End-from]
	before, after := whole(b[:c.Start-from], b[c.End-from:])
	sum := sha256.Sum256(marked)
	out := view.Cited{
		Source: id.Source, Record: c.Record, Title: rec.Title, URI: rec.URI, Kind: id.Stream, Version: c.Version, AsOf: snap.Time(),
		Before: show8(before), Marked: show8(marked), After: show8(after), CutBefore: from, CutAfter: in.Size - to, Start: c.Start, End: c.End,
		Raw: rec.Text.IsZero(), Want: c.SHA256, Got: hex.EncodeToString(sum[:]), Blob: in.Hash.String(),
	}
	if out.Title == "" {
		out.Title = id.Native
	}
	if t := rec.Time(); !t.IsZero() {
		out.Facts = append(out.Facts, view.Fact{Name: "Dated", Text: view.Moment(t)})
	}
	if rec.Extract != "" {
		out.Facts = append(out.Facts, view.Fact{Name: "Extracted by", Text: rec.Extract})
	}
	out.Heading, err = heading(r, rec, c.Start)
	return out, in, err
}

// heading is the path of headings above a byte of a document.
func heading(r *graph.Reader, rec graph.Record, at int64) ([]string, error) {
	if rec.Outline.IsZero() {
		return nil, nil
	}
	o, err := r.Outline(rec)
	if err != nil {
		return nil, err
	}
	for _, s := range o.Sections {
		if int64(s.Start) <= at && at < int64(s.End) {
			return s.Path, nil
		}
	}
	return nil, nil
}

// whole drops what a cut left of a character at the far ends.
func whole(before, after []byte) ([]byte, []byte) {
	for len(before) > 0 && !utf8.RuneStart(before[0]) {
		before = before[1:]
	}
	for i := 0; i < utf8.UTFMax && len(after) > 0; i++ {
		if last, n := utf8.DecodeLastRune(after); last != utf8.RuneError || n != 1 {
			break
		}
		after = after[:len(after)-1]
	}
	return before, after
}

func show8(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }
