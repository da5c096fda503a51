package uitest

import (
	"context"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

type sourceRoom struct{ *World }

func (r sourceRoom) List(context.Context, auth.Principal) ([]view.Source, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.sources), r.may(auth.SourceRead)
}

func (r sourceRoom) Get(_ context.Context, _ auth.Principal, name string) (view.Source, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := r.at(name); i >= 0 {
		return r.sources[i], r.may(auth.SourceRead)
	}
	return view.Source{}, store.ErrNotFound
}

func (r sourceRoom) at(name string) int {
	return slices.IndexFunc(r.sources, func(s view.Source) bool { return s.Name == name })
}

func (r sourceRoom) Add(_ context.Context, _ auth.Principal, kind, name, at string, audience []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.SourceManage); err != nil {
		return err
	}
	switch {
	case r.at(name) >= 0:
		return &ui.InputError{Field: "name", Text: "There is a source of that name already."}
	case strings.Contains(at, "nowhere"):
		return &ui.InputError{Field: "path", Text: "There is no git repository at " + at + ". Give the folder that holds .git, or a bare repository."}
	}
	r.sources = append(r.sources, view.Source{
		Name: name, Kind: kind, Path: path.Clean(at), Audience: audience, Tone: view.Live, State: "syncing",
		Sync: &view.Sync{Running: true, Stage: "Reading commits", Total: 400, Started: now},
	})
	return nil
}

func (r sourceRoom) Remove(_ context.Context, _ auth.Principal, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.SourceManage); err != nil {
		return err
	}
	i := r.at(name)
	if i < 0 {
		return store.ErrNotFound
	}
	r.sources = slices.Delete(r.sources, i, i+1)
	return nil
}

func (r sourceRoom) Sync(_ context.Context, _ auth.Principal, name string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at(name) < 0 {
		return store.ErrNotFound
	}
	return r.may(auth.SourceManage)
}

// Watch lets a source that was just added finish its sync; one of Full's keeps
// standing where it is.
func (r sourceRoom) Watch(ctx context.Context, p auth.Principal, name string) iter.Seq2[view.Source, error] {
	return func(yield func(view.Source, error) bool) {
		for {
			s, err := r.Get(ctx, p, name)
			if !yield(s, err) || err != nil {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.stage):
			}
			if s.Version != 0 || s.Sync == nil || !s.Sync.Running {
				continue
			}
			next := *s.Sync
			if next.Done += 100; next.Done >= next.Total {
				s.Tone, s.State, s.AsOf, s.Version = view.OK, "up to date", now, 512
				s.Counts = []view.Number{{Name: "commits", Value: 400}, {Name: "people", Value: 12}, {Name: "files", Value: 96}}
				next.Running, next.Ended, next.Took, next.Written = false, now, 1800*time.Millisecond, 508
			}
			s.Sync = &next
			r.mu.Lock()
			if i := r.at(name); i >= 0 {
				r.sources[i] = s
			}
			r.mu.Unlock()
		}
	}
}

type runRoom struct{ *World }

func (r runRoom) Ask(_ context.Context, _ auth.Principal, _, talk, question string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.Ask); err != nil {
		return "", err
	}
	id := fmt.Sprintf("01K9R0%020d", len(r.runs))
	if talk == "" {
		talk = id
	} else if !slices.ContainsFunc(r.runs, func(v view.Run) bool { return v.Talk == talk }) {
		return "", store.ErrNotFound
	} else if slices.ContainsFunc(r.runs, func(v view.Run) bool { return v.Talk == talk && v.Running && r.advance(v).Running }) {
		return "", &ui.InputError{Text: "The question before is still being worked on: wait for its answer, or stop it."}
	}
	r.asked[id] = time.Now()
	r.runs = append([]view.Run{{ID: id, Talk: talk, Question: question, Running: true, Asked: now}}, r.runs...)
	return talk, nil
}

func (r runRoom) Stop(_ context.Context, _ auth.Principal, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.Ask); err != nil {
		return err
	}
	i := slices.IndexFunc(r.runs, func(v view.Run) bool { return v.ID == id })
	if i < 0 {
		return auth.ErrDenied
	}
	if !r.runs[i].Running || !r.advance(r.runs[i]).Running {
		return &ui.InputError{Text: "The run has already ended."}
	}
	r.runs[i].Running, r.runs[i].Stopped, r.runs[i].Failed = false, true, "You stopped it before it had an answer."
	return nil
}

// Get lets a run go on by one stage for each World.stage since it was asked.
func (r runRoom) Get(_ context.Context, _ auth.Principal, id string) (view.Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, run := range r.runs {
		if run.ID != id {
			continue
		}
		if err := r.may(auth.RunRead); err != nil || !run.Running {
			return run, err
		}
		return r.advance(run), nil
	}
	return view.Run{}, store.ErrNotFound
}

func (r runRoom) advance(run view.Run) view.Run {
	at := int(time.Since(r.asked[run.ID]) / r.stage)
	end := runs()[6]
	if at >= len(end.Stages) {
		end.ID, end.Talk, end.Question, end.Asked = run.ID, run.Talk, run.Question, run.Asked
		return end
	}
	run.Stages = done()
	for i := range run.Stages {
		switch {
		case i == at:
			run.Stages[i].Tone = view.Live
		case i > at:
			run.Stages[i].Tone = view.Calm
		}
	}
	return run
}

// talkRoom makes conversations of the runs: those with one Talk are one.
type talkRoom struct{ *World }

func (r talkRoom) List(ctx context.Context, p auth.Principal, title, before string, limit int) (out []view.Talk, older string, err error) {
	r.mu.Lock()
	all := slices.Clone(r.runs)
	r.mu.Unlock()
	seen := map[string]bool{}
	for _, run := range all {
		if before != "" && run.ID >= before || seen[run.Talk] {
			continue
		}
		seen[run.Talk] = true
		if len(out) == limit {
			return out, older, nil
		}
		t, err := r.Get(ctx, p, run.Talk, 0)
		if err != nil {
			return nil, "", err
		}
		if older = run.ID; strings.Contains(strings.ToLower(t.Title), strings.ToLower(title)) {
			out = append(out, t)
		}
	}
	return out, "", nil
}

func (r talkRoom) Get(ctx context.Context, p auth.Principal, id string, _ int) (view.Talk, error) {
	one, err := runRoom(r).Get(ctx, p, id)
	if err != nil {
		return view.Talk{}, err
	}
	r.mu.Lock()
	all := slices.Clone(r.runs)
	t := view.Talk{ID: one.Talk, Title: r.titles[one.Talk]}
	r.mu.Unlock()
	for _, run := range slices.Backward(all) {
		if run.Talk != one.Talk {
			continue
		}
		if run, err = runRoom(r).Get(ctx, p, run.ID); err != nil {
			return t, err
		}
		if t.Title == "" {
			t.Title = run.Question
		}
		t.Last, t.Updated, t.Turns = run, run.Asked, t.Turns+1
		run.Earlier = true
		t.Runs = append(t.Runs, run)
	}
	t.Runs[len(t.Runs)-1].Earlier = false
	return t, nil
}

func (r talkRoom) Rename(_ context.Context, _ auth.Principal, id, title string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.Ask); err != nil {
		return err
	}
	if title == "" {
		return &ui.InputError{Field: "title", Text: "A title has 1 to 200 bytes of text."}
	}
	r.titles[id] = title
	return nil
}

func (r talkRoom) Delete(_ context.Context, _ auth.Principal, id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.Ask); err != nil {
		return err
	}
	n := len(r.runs)
	r.runs = slices.DeleteFunc(r.runs, func(v view.Run) bool { return v.Talk == id })
	if len(r.runs) == n {
		return auth.ErrDenied
	}
	return nil
}

func (r runRoom) Watch(ctx context.Context, p auth.Principal, id string) iter.Seq2[view.Run, error] {
	return func(yield func(view.Run, error) bool) {
		for {
			run, err := r.Get(ctx, p, id)
			if !yield(run, err) || err != nil || !run.Running {
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(r.stage / 2):
			}
		}
	}
}

type citeRoom struct{ *World }

func (r citeRoom) Open(_ context.Context, _ auth.Principal, c ui.Cite) (view.Cited, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.SourceRead); err != nil {
		return view.Cited{}, err
	}
	whole := map[string]string{
		"commit/9b1f7e02": commit, "file/policies/retention.md": retention, "file/docs/settlement.md": settlement, "file/teams/on-call.md": onCall,
	}[c.Record]
	if whole == "" || c.End > int64(len(whole)) {
		return view.Cited{}, store.ErrNotFound
	}
	out := view.Cited{
		Source: c.Source, Record: c.Record, Kind: "document", Version: c.Version, AsOf: ago(6 * time.Minute), Start: c.Start, End: c.End,
		Before: whole[:c.Start], Marked: whole[c.Start:c.End], After: whole[c.End:], Want: c.SHA256, Got: sum(whole[c.Start:c.End]), Blob: sum(whole),
	}
	if strings.HasPrefix(c.Record, "commit/") {
		out.Kind, out.Raw, out.Title, out.URI = "commit", true, "settlement: retry a file whose acknowledgement was lost", "9b1f7e02c4d8"
		out.Facts = []view.Fact{{Name: "Author", Text: "Tomás Ferreira"}, {Name: "Committed", Text: "2026-11-19 14:02:51 UTC"}}
		return out, nil
	}
	out.Title, _, _ = strings.Cut(whole, "\n")
	out.Heading = []string{"Policies", out.Title}
	out.URI = strings.TrimPrefix(c.Record, "file/")
	if c.Record == "file/policies/retention.md" {
		out.Changed, out.Newer = true, ago(4*time.Minute)
	}
	return out, nil
}

type recordRoom struct{ *World }

func (r recordRoom) Log(context.Context, auth.Principal) (view.Log, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	size := uint64(len(r.records))
	root := "Kf2nV0mN8qPz1YcT6uWb3xRj9sLd5hGe7aIoQk4tZy8="
	return view.Log{
		Size: size, Signed: size, SignedAt: ago(900 * time.Millisecond), Root: root, Key: LogKey, Available: true,
		Note: fmt.Sprintf("cloister/meridian/audit\n%d\n%s\n\n— cloister/meridian/audit 8mVd1rYtq0w7bUeN2kXh…\n", size, root),
	}, r.may(auth.AuditRead)
}

func (r recordRoom) Get(_ context.Context, _ auth.Principal, seq uint64) (view.Record, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if seq >= uint64(len(r.records)) {
		return view.Record{}, store.ErrNotFound
	}
	rec := r.records[seq]
	rec.Proof, rec.ProofSteps, rec.ProofSize = fmt.Sprintf("c2sp.org/tlog-proof@v1\nindex %d\nKf2nV0mN8qPz1YcT6uWb3xRj9sLd5hGe7aIoQk4tZy8=\n", seq), 9, uint64(len(r.records))
	return rec, r.may(auth.AuditRead)
}

func (r recordRoom) List(_ context.Context, _ auth.Principal, q ui.RecordQuery) (ui.RecordPage, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.AuditRead); err != nil {
		return ui.RecordPage{}, err
	}
	var fit []view.Record
	for _, rec := range slices.Backward(r.records) {
		if fits(rec, q.RecordFilter) && !rec.Time.Before(q.Since) && (q.Until.IsZero() || rec.Time.Before(q.Until)) {
			fit = append(fit, rec)
		}
	}
	from := 0
	switch {
	case q.Before > 0:
		from = slices.IndexFunc(fit, func(x view.Record) bool { return x.Seq < q.Before })
	case q.After > 0:
		from = max(0, slices.IndexFunc(fit, func(x view.Record) bool { return x.Seq <= q.After })-q.Limit)
	}
	if from < 0 {
		return ui.RecordPage{}, nil
	}
	to := min(from+q.Limit, len(fit))
	page := ui.RecordPage{Rows: fit[from:to], Newer: from > 0}
	if to < len(fit) {
		page.Older = fit[to-1].Seq
	}
	return page, nil
}

func fits(r view.Record, f view.RecordFilter) bool {
	return (f.Kind == "" || r.Kind == f.Kind) && (f.Action == "" || r.Action == f.Action) &&
		strings.Contains(r.Actor, f.Actor) && strings.Contains(r.Resource, f.Resource) && (f.Run == "" || r.Run == f.Run) &&
		(f.Result == "" || r.Decision == f.Result || r.Status == f.Result)
}

func (r recordRoom) Export(_ context.Context, _ auth.Principal, _ ui.RecordRange, w io.Writer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.may(auth.AuditExport); err != nil {
		return err
	}
	_, err := io.WriteString(w, "a bundle\n")
	return err
}
