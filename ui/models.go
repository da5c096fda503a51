package ui

import (
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/a-h/templ"

	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) models(w http.ResponseWriter, r *http.Request) error {
	return u.modelsPage(w, r, http.StatusOK, "", "")
}

func (u *pages) modelsPage(w http.ResponseWriter, r *http.Request, code int, path, wrong string) error {
	d, err := u.modelList(r)
	if err != nil {
		return err
	}
	if d.Import, err = u.Models.Importing(r.Context(), who(r)); !unseen(&err) && err != nil {
		return err
	}
	d.Path, d.Wrong = path, wrong
	p := u.frame(r, "models", "Models")
	if d.Import != nil && d.Import.Running {
		p.Scripts = append(p.Scripts, "live.js")
		p.Refresh = 3
	}
	var n *view.Notice
	if r.URL.Query().Has("removed") {
		n = &view.Notice{Tone: view.OK, Title: "Model removed"}
	}
	return show(w, r, code, view.ModelsPage(p, d, n))
}

// modelList is the models with the routes that lead to them.
func (u *pages) modelList(r *http.Request) (view.Models, error) {
	d, err := u.Models.List(r.Context(), who(r))
	if err != nil {
		return d, err
	}
	routes, err := u.Models.Routes(r.Context(), who(r))
	if err != nil {
		return d, err
	}
	for i := range d.List {
		d.List[i].Route = strings.Join(routes[d.List[i].Name], ", ")
	}
	return d, nil
}

func (u *pages) modelImport(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	path := field(r, "path")
	err := u.Models.Import(r.Context(), who(r), path)
	if wrong, n, ok := wrongInput(err); ok {
		text := wrong["path"]
		if n != nil {
			text = n.Title
		}
		return u.modelsPage(w, r, http.StatusUnprocessableEntity, path, text)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/models")
}

// importPace is how often an import's progress is read.
const importPace = 300 * time.Millisecond

func (u *pages) modelProgress(w http.ResponseWriter, r *http.Request) error {
	p := u.frame(r, "models", "")
	return u.stream(w, r, u.importFrames(r, p))
}

func (u *pages) importFrames(r *http.Request, p view.Page) iter.Seq2[frame, error] {
	return func(yield func(frame, error) bool) {
		pace := time.NewTicker(importPace)
		defer pace.Stop()
		said := ""
		for {
			i, err := u.Models.Importing(r.Context(), who(r))
			if err != nil {
				yield(frame{}, err)
				return
			}
			f := frame{html: view.ImportLive(p, i, false), last: i == nil || !i.Running}
			if f.last {
				list, err := u.modelList(r)
				if err != nil {
					yield(frame{}, err)
					return
				}
				f.html, f.say = templ.Join(view.ImportLive(p, i, true), view.ModelList(p, list)), "The import has ended"
			} else if i.Stage != said {
				f.say, said = i.Stage, i.Stage
			}
			if !yield(f, nil) || f.last {
				return
			}
			select {
			case <-r.Context().Done():
				return
			case <-pace.C:
			}
		}
	}
}

func (u *pages) licence(w http.ResponseWriter, r *http.Request) error {
	l, err := u.Models.Licence(r.Context(), who(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.LicencePage(u.frame(r, "models", l.Name), l))
}

// licenceAccept accepts the terms for the installation.
func (u *pages) licenceAccept(w http.ResponseWriter, r *http.Request) error {
	if err := u.Models.Accept(r.Context(), who(r), r.PathValue("name")); err != nil {
		return err
	}
	return goTo(w, r, "/models")
}

func (u *pages) modelConfirm(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if _, err := u.Models.Licence(r.Context(), who(r), name); err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "models", "Remove "+name), view.Confirm{
		Title: "Remove " + name + "?", Way: []view.Link{{Text: "Models", URL: "/models"}},
		Effects: []string{
			"Calls that need this model are refused until another takes its place.",
			"Its files leave the disk of this node.",
		},
		After: "Import its pack again to get it back.", Action: "/models/" + url.PathEscape(name) + "/remove", Button: "Remove model",
	}))
}

func (u *pages) modelRemove(w http.ResponseWriter, r *http.Request) error {
	if err := u.Models.Remove(r.Context(), who(r), r.PathValue("name")); err != nil {
		return err
	}
	return goTo(w, r, "/models?removed")
}
