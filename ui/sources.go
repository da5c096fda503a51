package ui

import (
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) sources(w http.ResponseWriter, r *http.Request) error {
	if err := u.noSources(r.Context(), who(r)); err != nil {
		return err
	}
	list, err := u.Sources.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	var n *view.Notice
	if name := r.URL.Query().Get("removed"); name != "" {
		n = &view.Notice{Tone: view.OK, Title: "Source removed", Text: "Nothing from it appears in answers any more."}
	}
	return show(w, r, http.StatusOK, view.SourcesPage(u.frame(r, "sources", "Sources"), list, n, u.manages(r)))
}

// manages reports whether somebody connects systems.
func (u *pages) manages(r *http.Request) bool {
	return u.May(r.Context(), who(r), auth.SourceManage, auth.Source("*"))
}

func (u *pages) sourceForm(w http.ResponseWriter, r *http.Request) error {
	if err := u.needs(r.Context(), who(r), auth.SourceManage, auth.Source("*")); err != nil {
		return err
	}
	groups, err := u.Access.Groups(r.Context(), who(r))
	if err != nil {
		return err
	}
	f := view.SourceForm{Kind: r.URL.Query().Get("kind"), Audience: audienceForm(graph.DefaultAudience(), groups)}
	return show(w, r, http.StatusOK, view.SourceAdd(u.frame(r, "sources", "Add a source"), f))
}

func (u *pages) sourceAdd(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	f := view.SourceForm{Kind: field(r, "kind"), Name: field(r, "name"), Path: field(r, "path")}
	audience := audienceOf(r)
	groups, err := u.Access.Groups(r.Context(), who(r))
	if err != nil {
		return err
	}
	f.Audience = audienceForm(audience, groups)
	if err = checkNoSecret("path", f.Path); err == nil {
		err = checkNoSecret("name", f.Name)
	}
	if err == nil {
		audience, err = checkedAudience(audience)
	}
	if err == nil {
		err = u.Sources.Add(r.Context(), who(r), f.Kind, f.Name, f.Path, audience)
	}
	if wrong, n, ok := wrongInput(err); ok {
		f.Wrong, f.Notice = wrong, n
		return show(w, r, http.StatusUnprocessableEntity, view.SourceAdd(u.frame(r, "sources", "Add a source"), f))
	}
	if err != nil {
		return err
	}
	return goTo(w, r, u.sourceURL(r, f.Name, ""))
}

// sourceURL is a source's page, or the one of its readers for whoever manages it
// and does not read it.
func (u *pages) sourceURL(r *http.Request, name, query string) string {
	at := "/sources/"
	if _, err := u.Sources.Get(r.Context(), who(r), name); errors.Is(err, store.ErrNotFound) {
		at, query = "/access/", ""
	}
	return at + url.PathEscape(name) + query
}

// checkNoSecret keeps an API key that was pasted in the wrong place from being
// stored.
func checkNoSecret(field, text string) error {
	if auth.HoldsSecret(text) {
		return &InputError{Field: field, Text: "This looks like an API key. It was not kept; revoke it if others could see it."}
	}
	return nil
}

func (u *pages) source(w http.ResponseWriter, r *http.Request) error {
	s, err := u.Sources.Get(r.Context(), who(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	var n *view.Notice
	if r.URL.Query().Has("syncing") {
		n = &view.Notice{Tone: view.Calm, Title: "A sync was asked for", Text: "This page follows it."}
	}
	p := u.frame(r, "sources", s.Name, "live.js")
	if s.Sync != nil && s.Sync.Running {
		p.Refresh = 3
	}
	return show(w, r, http.StatusOK, view.SourcePage(p, s, n, u.manages(r)))
}

func (u *pages) sourceSync(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if err := u.Sources.Sync(r.Context(), who(r), name); err != nil {
		return err
	}
	return goTo(w, r, u.sourceURL(r, name, "?syncing"))
}

func (u *pages) sourceProgress(w http.ResponseWriter, r *http.Request) error {
	p := u.frame(r, "sources", "")
	return u.stream(w, r, u.sourceFrames(r, p))
}

func (u *pages) sourceFrames(r *http.Request, p view.Page) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		said := ""
		for s, err := range u.Sources.Watch(r.Context(), who(r), r.PathValue("name")) {
			if err != nil {
				yield(frame{}, err)
				return
			}
			p.Now = u.Now()
			f := frame{html: view.SourceLive(p, s)}
			if now := syncWords(s); now != said {
				f.say, said = now, now
			}
			if !yield(f, nil) {
				return
			}
		}
	}
}

// syncWords says how a sync fares, in steps of a quarter, for screen readers.
func syncWords(s view.Source) string {
	y := s.Sync
	switch {
	case y == nil:
		return ""
	case y.Running && y.Total > 0:
		return fmt.Sprintf("%s, %d of 4 quarters done", y.Stage, min(4, y.Done*4/y.Total))
	case y.Running:
		return y.Stage
	case y.Error != "":
		return "The sync did not finish: " + y.Error
	default:
		return "The sync is complete"
	}
}

func (u *pages) sourceRemoveForm(w http.ResponseWriter, r *http.Request) error {
	return u.sourceConfirm(w, r, http.StatusOK, nil)
}

func (u *pages) sourceConfirm(w http.ResponseWriter, r *http.Request, code int, n *view.Notice) error {
	s, err := u.removable(r)
	if err != nil {
		return err
	}
	at := "/sources/" + url.PathEscape(s.Name)
	return show(w, r, code, view.ConfirmPage(u.frame(r, "sources", "Remove "+s.Name), view.Confirm{
		Title: "Remove " + s.Name + "?", Way: []view.Link{{Text: "Sources", URL: "/sources"}, {Text: s.Name, URL: at}},
		Effects: []string{
			"Nothing from " + s.Name + " appears in answers, counts or searches any more.",
			"What lies at " + s.Path + " is not touched.",
			"The audit record of what was asked and read stays.",
		},
		After: "Connecting it again later reads it anew.", Action: at + "/remove", Button: "Remove source", Notice: n,
	}))
}

// removable is the source that somebody is about to remove: one that they read,
// or one that they manage without reading it.
func (u *pages) removable(r *http.Request) (view.Source, error) {
	name := r.PathValue("name")
	s, err := u.Sources.Get(r.Context(), who(r), name)
	if !errors.Is(err, store.ErrNotFound) || !u.May(r.Context(), who(r), auth.AccessRead, auth.TheSystem) {
		return s, err
	}
	a, err := u.Access.Get(r.Context(), who(r), name)
	return view.Source{Name: a.Source, Kind: a.Kind, Path: a.Path}, err
}

func (u *pages) sourceRemove(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	err := u.Sources.Remove(r.Context(), who(r), name)
	if _, n, ok := wrongInput(err); ok && n != nil {
		return u.sourceConfirm(w, r, http.StatusConflict, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/sources?removed="+url.QueryEscape(name))
}
