package ui

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/cloister-os/cloister/ui/view"
)

// mostMemories is how many memories a person may have: memory.MaxPerPerson.
const mostMemories = 1000

func (u *pages) memories(w http.ResponseWriter, r *http.Request) error {
	var n *view.Notice
	switch q := r.URL.Query(); {
	case q.Has("added"):
		n = &view.Notice{Tone: view.OK, Title: "Remembered", Text: "Ask for it in any conversation; the answer says that you told it."}
	case q.Has("forgotten"):
		n = &view.Notice{Tone: view.OK, Title: "Forgotten", Text: "The key that opened it is destroyed. Answers that used it no longer show it."}
	case q.Has("undone"):
		n = &view.Notice{Tone: view.OK, Title: "Undone", Text: "It is forgotten, and what it took the place of is back."}
	}
	return u.memoryPage(w, r, http.StatusOK, "", nil, n)
}

func (u *pages) memoryPage(w http.ResponseWriter, r *http.Request, code int, text string, wrong map[string]string, n *view.Notice) error {
	list, err := u.Memories.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	d := view.Memories{Kept: len(list), Most: mostMemories, Query: short(strings.TrimSpace(r.URL.Query().Get("q")), 100), Text: text, Wrong: wrong, Notice: n}
	for _, m := range list {
		if !m.Current {
			continue
		}
		d.Total++
		if strings.Contains(strings.ToLower(m.Words), strings.ToLower(d.Query)) {
			d.List = append(d.List, m)
		}
	}
	return show(w, r, code, view.MemoryPage(u.frame(r, "memory", "Memory"), d))
}

func (u *pages) memoryAdd(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	text := field(r, "text")
	err := u.Memories.Add(r.Context(), who(r), onceFor(field(r, "once"), text), text)
	if wrong, n, ok := wrongInput(err); ok {
		if checkNoSecret("text", text) != nil {
			text = ""
		}
		return u.memoryPage(w, r, http.StatusUnprocessableEntity, text, wrong, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/memory?added")
}

func (u *pages) memory(w http.ResponseWriter, r *http.Request) error {
	m, chain, err := u.Memories.Get(r.Context(), who(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	var n *view.Notice
	if r.URL.Query().Has("edited") {
		n = &view.Notice{Tone: view.OK, Title: "Corrected", Text: "What you had said before stays below until you forget it."}
	}
	return show(w, r, http.StatusOK, view.MemoryWhyPage(u.frame(r, "memory", short(m.Words, 60)), m, chain, n))
}

func (u *pages) memoryEditForm(w http.ResponseWriter, r *http.Request) error {
	m, _, err := u.Memories.Get(r.Context(), who(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.MemoryEditPage(u.frame(r, "memory", "Correct a memory"), view.MemoryEdit{Memory: m, Text: m.Words}))
}

func (u *pages) memoryEdit(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	text := field(r, "text")
	id, err := u.Memories.Edit(r.Context(), who(r), r.PathValue("id"), onceFor(field(r, "once"), text), text)
	if wrong, n, ok := wrongInput(err); ok {
		m, _, err := u.Memories.Get(r.Context(), who(r), r.PathValue("id"))
		if err != nil {
			return err
		}
		return show(w, r, http.StatusUnprocessableEntity, view.MemoryEditPage(u.frame(r, "memory", "Correct a memory"), view.MemoryEdit{Memory: m, Text: text, Wrong: wrong, Notice: n}))
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/memory/"+url.PathEscape(id)+"?edited")
}

func (u *pages) memoryForgetForm(w http.ResponseWriter, r *http.Request) error {
	m, chain, err := u.Memories.Get(r.Context(), who(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	effects := []string{
		"No answer uses it any more, on any node.",
		"The answers that used it, and the question in which you said it, no longer show its words.",
		"The key that opens it is destroyed: no past version can be read.",
	}
	if len(chain) > 1 {
		effects = append([]string{"What you said of it before is forgotten with it: " + view.Plural(len(chain)-1, "earlier memory", "earlier memories") + "."}, effects...)
	}
	at := "/memory/" + url.PathEscape(m.ID)
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "memory", "Forget a memory"), view.Confirm{
		Title: "Forget “" + m.Words + "”?", Way: []view.Link{{Text: "Memory", URL: "/memory"}, {Text: "Why", URL: at}}, Effects: effects,
		After: forgetWindow, Action: at + "/forget", Button: "Forget it",
	}))
}

// forgetWindow says honestly what may outlast a memory, and for how long.
const forgetWindow = "It cannot be brought back. A backup made before holds it, sealed, until that backup is deleted; a restore from it forgets it again where the list of what was forgotten is still there: on every running node, and beside the backups."

func (u *pages) memoryForget(w http.ResponseWriter, r *http.Request) error {
	if err := u.Memories.Forget(r.Context(), who(r), r.PathValue("id")); err != nil {
		return err
	}
	return goTo(w, r, "/memory?forgotten")
}

func (u *pages) memoryForgetAllForm(w http.ResponseWriter, r *http.Request) error {
	list, err := u.Memories.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "memory", "Forget everything"), view.Confirm{
		Title: "Forget everything that you told?", Way: []view.Link{{Text: "Memory", URL: "/memory"}},
		Effects: []string{
			view.Plural(len(list), "memory is", "memories are") + " forgotten, what you said before included.",
			"Answers that used them no longer show their words.",
			"The keys that open them are destroyed: no past version can be read.",
		},
		After: forgetWindow, Action: "/memory/forget", Button: "Forget everything",
	}))
}

func (u *pages) memoryForgetAll(w http.ResponseWriter, r *http.Request) error {
	if err := u.Memories.ForgetAll(r.Context(), who(r)); err != nil {
		return err
	}
	return goTo(w, r, "/memory?forgotten")
}

func (u *pages) memoryUndo(w http.ResponseWriter, r *http.Request) error {
	if err := u.Memories.Undo(r.Context(), who(r), r.PathValue("id")); err != nil {
		if _, n, ok := wrongInput(err); ok {
			return u.memoryPage(w, r, http.StatusConflict, "", nil, n)
		}
		return err
	}
	return goTo(w, r, "/memory?undone")
}
