package ui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) directories(w http.ResponseWriter, r *http.Request) error {
	var n *view.Notice
	switch q := r.URL.Query(); {
	case q.Has("joined"):
		n = &view.Notice{Tone: view.OK, Title: "The directory is joined", Text: "Nobody of it can sign in yet: say which group gives which role."}
	case q.Has("granted"):
		n = &view.Notice{Tone: view.OK, Title: "The group gives the role", Text: "It counts from the next request of whoever is in it."}
	case q.Has("revoked"):
		n = &view.Notice{Tone: view.OK, Title: "The role was taken back", Text: "It counts no more from the next request on."}
	case q.Has("left"):
		n = &view.Notice{Tone: view.OK, Title: "The directory was left", Text: "Its people are signed out on every node."}
	}
	return u.directoriesPage(w, r, http.StatusOK, n)
}

func (u *pages) directoriesPage(w http.ResponseWriter, r *http.Request, code int, n *view.Notice) error {
	list, err := u.Directories.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	return show(w, r, code, view.DirectoriesPage(u.frame(r, "directories", "Directory"), view.Directories{List: list}, n))
}

// directoriesDone shows the list again when the person can do something about the
// error, and leads to it when there was none.
func (u *pages) directoriesDone(w http.ResponseWriter, r *http.Request, err error, then string) error {
	if _, n, ok := wrongInput(err); ok && n != nil {
		return u.directoriesPage(w, r, http.StatusUnprocessableEntity, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/directories?"+then)
}

func (u *pages) directoryForm(w http.ResponseWriter, r *http.Request) error {
	if _, err := u.Directories.List(r.Context(), who(r)); err != nil {
		return err
	}
	return u.directoryAddPage(w, r, http.StatusOK, DirectorySpec{}, view.DirectoryForm{})
}

func (u *pages) directoryAddPage(w http.ResponseWriter, r *http.Request, code int, s DirectorySpec, f view.DirectoryForm) error {
	f.Name, f.Servers, f.CA, f.BindDN, f.Base, f.GroupBase, f.Filter = s.Name, strings.Join(s.Servers, " "), s.CA, s.BindDN, s.Base, s.GroupBase, s.Filter
	for _, k := range []view.Choice{{Value: "", Text: "Ask the server"}, {Value: "ad", Text: "Active Directory"}, {Value: "ldap", Text: "LDAP"}} {
		k.On = k.Value == s.Kind
		f.Kinds = append(f.Kinds, k)
	}
	return show(w, r, code, view.DirectoryAddPage(u.frame(r, "directories", "Join a directory"), f))
}

// directoryAdd tests, or tests and joins. The password is never sent back.
func (u *pages) directoryAdd(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	s := DirectorySpec{
		Name: field(r, "name"), Servers: strings.FieldsFunc(field(r, "servers"), func(c rune) bool { return c == ' ' || c == ',' || c == '\n' || c == '\r' || c == '\t' }),
		CA: field(r, "ca"), BindDN: field(r, "bind"), Password: r.PostFormValue("password"), Base: field(r, "base"), GroupBase: field(r, "groups"),
		Kind: field(r, "kind"), Filter: field(r, "filter"),
	}
	f := view.DirectoryForm{Person: field(r, "person")}
	err := checkNoSecret("", strings.Join([]string{s.Name, field(r, "servers"), s.CA, s.BindDN, s.Base, s.GroupBase, s.Filter, f.Person}, "\n"))
	if err != nil {
		s, f.Person = DirectorySpec{}, "" // not even back to the page
	}
	join := field(r, "do") == "join"
	switch {
	case err != nil:
	case join:
		f.Report, err = u.Directories.Add(r.Context(), who(r), s)
	default:
		f.Report, err = u.Directories.Test(r.Context(), who(r), s, f.Person)
	}
	if wrong, n, ok := wrongInput(err); ok {
		f.Wrong, f.Notice = wrong, n
		return u.directoryAddPage(w, r, http.StatusUnprocessableEntity, s, f)
	}
	if err != nil {
		return err
	}
	if join {
		return goTo(w, r, "/directories?joined")
	}
	return u.directoryAddPage(w, r, http.StatusOK, s, f)
}

func (u *pages) directoryTestForm(w http.ResponseWriter, r *http.Request) error {
	d, err := u.directory(r)
	if err != nil {
		return err
	}
	return u.directoryTestPage(w, r, http.StatusOK, view.DirectoryTest{Directory: d.Name})
}

func (u *pages) directoryTestPage(w http.ResponseWriter, r *http.Request, code int, d view.DirectoryTest) error {
	return show(w, r, code, view.DirectoryTestPage(u.frame(r, "directories", "Test "+d.Directory), d))
}

func (u *pages) directoryTest(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	d := view.DirectoryTest{Directory: r.PathValue("name"), Person: field(r, "person")}
	err := checkNoSecret("", d.Person)
	if err != nil {
		d.Person = ""
	} else {
		d.Report, err = u.Directories.TestJoined(r.Context(), who(r), d.Directory, d.Person)
	}
	if _, n, ok := wrongInput(err); ok {
		d.Notice = n
		return u.directoryTestPage(w, r, http.StatusUnprocessableEntity, d)
	}
	if err != nil {
		return err
	}
	return u.directoryTestPage(w, r, http.StatusOK, d)
}

// directory is the directory that the address names.
func (u *pages) directory(r *http.Request) (view.Directory, error) {
	list, err := u.Directories.List(r.Context(), who(r))
	if err != nil {
		return view.Directory{}, err
	}
	i := slices.IndexFunc(list, func(d view.Directory) bool { return d.Name == r.PathValue("name") })
	if i < 0 {
		return view.Directory{}, store.ErrNotFound
	}
	return list[i], nil
}

func (u *pages) directoryGroupsForm(w http.ResponseWriter, r *http.Request) error {
	d, err := u.directory(r)
	if err != nil {
		return err
	}
	return u.directoryGroupsPage(w, r, http.StatusOK, view.DirectoryGroups{Directory: d.Name})
}

func (u *pages) directoryGroupsPage(w http.ResponseWriter, r *http.Request, code int, d view.DirectoryGroups) error {
	d.Roles = []string{"user", "builder", "approver", "auditor", "operator", "administrator"}
	return show(w, r, code, view.DirectoryGroupsPage(u.frame(r, "directories", "Groups of "+d.Directory), d))
}

// directoryGroups looks for groups. It is a form that is sent, not an address, for
// a look goes out to the directory and on record.
func (u *pages) directoryGroups(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	return u.look(w, r, http.StatusOK, nil)
}

func (u *pages) look(w http.ResponseWriter, r *http.Request, code int, n *view.Notice) error {
	d := view.DirectoryGroups{Directory: r.PathValue("name"), Search: field(r, "search"), Notice: n}
	err := checkNoSecret("", d.Search)
	if err != nil {
		d.Search = ""
	} else {
		d.Looked = true
		d.List, d.More, err = u.Directories.Groups(r.Context(), who(r), d.Directory, d.Search)
	}
	if _, wrong, ok := wrongInput(err); ok {
		d.Notice, d.Looked = wrong, false
		return u.directoryGroupsPage(w, r, http.StatusUnprocessableEntity, d)
	}
	if err != nil {
		return err
	}
	return u.directoryGroupsPage(w, r, code, d)
}

func (u *pages) directoryGrant(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	err := u.Directories.Grant(r.Context(), who(r), r.PathValue("name"), field(r, "group"), field(r, "role"))
	if _, n, ok := wrongInput(err); ok && n != nil {
		return u.look(w, r, http.StatusUnprocessableEntity, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/directories?granted")
}

func (u *pages) directoryRevoke(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	err := u.Directories.Revoke(r.Context(), who(r), r.PathValue("name"), field(r, "group"), field(r, "role"))
	return u.directoriesDone(w, r, err, "revoked")
}

func (u *pages) directoryRemoveForm(w http.ResponseWriter, r *http.Request) error {
	d, err := u.directory(r)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "directories", "Leave "+d.Name), view.Confirm{
		Title: "Leave the directory “" + d.Name + "”?", Way: []view.Link{{Text: "Directory", URL: "/directories"}},
		Effects: []string{
			"Everybody who signed in by it is signed out on every node, and what agents do in their name stops.",
			"Its groups give no roles any more; that has to be said anew when it is joined again.",
		},
		After: "Nothing in the directory itself is changed.", Action: "/directories/" + url.PathEscape(d.Name) + "/remove", Button: "Leave it",
	}))
}

func (u *pages) directoryRemove(w http.ResponseWriter, r *http.Request) error {
	return u.directoriesDone(w, r, u.Directories.Remove(r.Context(), who(r), r.PathValue("name")), "left")
}
