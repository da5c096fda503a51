package ui

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) keys(w http.ResponseWriter, r *http.Request) error {
	list, err := u.Keys.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	var n *view.Notice
	if r.URL.Query().Has("revoked") {
		n = &view.Notice{Tone: view.OK, Title: "Key revoked", Text: "The next request with it is refused."}
	}
	return show(w, r, http.StatusOK, view.KeysPage(u.frame(r, "keys", "API keys"), view.Keys{List: list}, n))
}

func (u *pages) keyForm(w http.ResponseWriter, r *http.Request) error {
	if err := u.needs(r.Context(), who(r), auth.KeyManage, auth.TheSystem); err != nil {
		return err
	}
	return u.keyPage(w, r, http.StatusOK, KeySpec{Scopes: []string{"ask"}, TTL: 90 * day}, nil, nil)
}

const day = 24 * time.Hour

func (u *pages) keyPage(w http.ResponseWriter, r *http.Request, code int, spec KeySpec, wrong map[string]string, n *view.Notice) error {
	sources, err := u.Sources.List(r.Context(), who(r))
	if !unseen(&err) && err != nil {
		return err
	}
	f := view.KeyForm{Name: spec.Name, Wrong: wrong, Notice: n, Scopes: []view.Choice{
		{Value: "ask", Text: "ask", Hint: "Ask questions about the sources below."},
		{Value: "model", Text: "model", Hint: "Completions and embeddings, OpenAI-compatible."},
		{Value: "source", Text: "source", Hint: "Add, sync and remove sources."},
		{Value: "audit", Text: "audit", Hint: "Read and export the audit log."},
		{Value: "key", Text: "key", Hint: "Make and revoke keys."},
		{Value: "policy", Text: "policy", Hint: "Read and change policies."},
	}}
	for i := range f.Scopes {
		f.Scopes[i].On = slices.Contains(spec.Scopes, f.Scopes[i].Value)
	}
	for _, s := range sources {
		f.Sources = append(f.Sources, view.Choice{Value: s.Name, Text: s.Name, On: slices.Contains(spec.Sources, s.Name)})
	}
	for _, days := range []int{7, 30, 90, 365} {
		ttl := time.Duration(days) * day
		f.TTLs = append(f.TTLs, view.Choice{Value: strconv.Itoa(days), Text: strconv.Itoa(days) + " days", On: ttl == spec.TTL})
	}
	return show(w, r, code, view.KeyNewPage(u.frame(r, "keys", "New API key"), f))
}

// keyCreate shows the secret in the answer to the form itself: it exists nowhere
// else, so there is no address to come back to.
func (u *pages) keyCreate(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	spec := KeySpec{Name: field(r, "name"), Scopes: r.PostForm["scope"], Sources: r.PostForm["source"]}
	days, _ := strconv.Atoi(field(r, "ttl")) // what does not parse is the default
	spec.TTL = time.Duration(days) * day
	var err error
	switch {
	case spec.Name == "":
		err = &InputError{Field: "name", Text: "Give the key a name."}
	case len(spec.Scopes) == 0:
		err = &InputError{Field: "scope", Text: "Tick at least one scope."}
	default:
		err = checkNoSecret("name", spec.Name)
	}
	made := view.MadeKey{BaseURL: u.URL}
	if err == nil {
		made.Key, made.Secret, err = u.Keys.Create(r.Context(), who(r), spec)
	}
	if wrong, n, ok := wrongInput(err); ok {
		return u.keyPage(w, r, http.StatusUnprocessableEntity, spec, wrong, n)
	}
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.KeyMadePage(u.frame(r, "keys", "Key made"), made))
}

func (u *pages) keyConfirm(w http.ResponseWriter, r *http.Request) error {
	list, err := u.Keys.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	i := slices.IndexFunc(list, func(k view.Key) bool { return k.ID == r.PathValue("id") })
	if i < 0 {
		return store.ErrNotFound
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "keys", "Revoke "+list[i].Name), view.Confirm{
		Title: "Revoke “" + list[i].Name + "”?", Way: []view.Link{{Text: "API keys", URL: "/keys"}},
		Effects: []string{
			"The next request with this key is refused.",
			"What was done with it stays on the audit record.",
		},
		After: "A key cannot be brought back; make another instead.", Action: "/keys/" + url.PathEscape(list[i].ID) + "/revoke", Button: "Revoke key",
	}))
}

func (u *pages) keyRevoke(w http.ResponseWriter, r *http.Request) error {
	if err := u.Keys.Revoke(r.Context(), who(r), r.PathValue("id")); err != nil {
		return err
	}
	return goTo(w, r, "/keys?revoked")
}
