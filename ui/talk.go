package ui

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

// remains is what is left of a conversation that was deleted.
const remains = "What remains: the audit record says that questions were asked and deleted, and holds no word of them. " +
	"Backups and versions of the past keep what they hold until they are taken away or cut off."

// talk shows a conversation. A turn that is not the first names it as well.
func (u *pages) talk(w http.ResponseWriter, r *http.Request) error {
	return u.talkPage(w, r, http.StatusOK, r.PathValue("run"), "", nil)
}

func (u *pages) talkPage(w http.ResponseWriter, r *http.Request, code int, id, question string, n *view.Notice) error {
	before := 0
	if s := r.URL.Query().Get("before"); s != "" {
		var err error
		if before, err = strconv.Atoi(s); err != nil || before < 1 {
			return store.ErrNotFound
		}
	}
	t, err := u.Talks.Get(r.Context(), who(r), id, before)
	if err != nil {
		return err
	}
	if t.ID != id && r.Method == http.MethodGet {
		return goTo(w, r, talkURL(t.ID)+placeOf(t, id))
	}
	p := u.frame(r, "ask", short(t.Title, 60), "live.js")
	if n == nil && r.URL.Query().Has("ended") {
		n = &view.Notice{Tone: view.OK, Title: "It had ended already", Text: "There was nothing left to stop."}
	}
	for _, run := range t.Runs {
		if run.Running {
			p.Refresh, p.Reload = 1, talkURL(t.ID)
		}
	}
	return show(w, r, code, view.TalkPage(p, t, question, n))
}

// placeOf is where a turn stands on its conversation's page.
func placeOf(t view.Talk, id string) string {
	if n := len(t.Runs); n > 0 && t.Runs[n-1].ID == id {
		return "#now"
	}
	return "#turn-" + url.PathEscape(id)
}

// stop ends a run that is being worked on, through whichever node.
func (u *pages) stop(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("run")
	err := u.Runs.Stop(r.Context(), who(r), id)
	if _, _, ended := wrongInput(err); ended {
		return goTo(w, r, talkURL(id)+"?ended")
	}
	if err != nil {
		return err
	}
	return goTo(w, r, talkURL(id))
}

func (u *pages) renameForm(w http.ResponseWriter, r *http.Request) error {
	t, err := u.Talks.Get(r.Context(), who(r), r.PathValue("run"), 0)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.RenamePage(u.frame(r, "ask", "Rename"), t, t.Title, nil))
}

func (u *pages) rename(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	id, title := r.PathValue("run"), strings.Join(strings.Fields(r.PostFormValue("title")), " ")
	err := checkNoSecret("title", title)
	if err == nil {
		err = u.Talks.Rename(r.Context(), who(r), id, title)
	} else {
		title = ""
	}
	wrong, n, ok := wrongInput(err)
	switch {
	case ok:
		t, err := u.Talks.Get(r.Context(), who(r), id, 0)
		if err != nil {
			return err
		}
		if n != nil {
			wrong = map[string]string{"title": n.Title}
		}
		return show(w, r, http.StatusUnprocessableEntity, view.RenamePage(u.frame(r, "ask", "Rename"), t, title, wrong))
	case err != nil:
		return err
	}
	return goTo(w, r, talkURL(id))
}

func (u *pages) deleteForm(w http.ResponseWriter, r *http.Request) error {
	t, err := u.Talks.Get(r.Context(), who(r), r.PathValue("run"), 0)
	if err != nil {
		return err
	}
	what := "Its question and its answer are gone, for you as well."
	if t.Turns > 1 {
		what = "Its " + strconv.Itoa(t.Turns) + " questions and their answers are gone, for you as well."
	}
	title := short(t.Title, 60)
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "ask", "Delete a conversation"), view.Confirm{
		Title: "Delete “" + title + "”?", Way: []view.Link{{Text: "Ask", URL: "/ask"}, {Text: title, URL: talkURL(t.ID)}},
		Effects: []string{what, "A question that is being answered is stopped.", "No later question can lean on it."},
		After:   remains, Action: talkURL(t.ID) + "/delete", Button: "Delete conversation",
	}))
}

func (u *pages) delete(w http.ResponseWriter, r *http.Request) error {
	if err := u.Talks.Delete(r.Context(), who(r), r.PathValue("run")); err != nil {
		return err
	}
	return goTo(w, r, "/ask?deleted")
}
