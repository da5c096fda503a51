package ui

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/ui/view"
)

// access shows who sees what; ?reader= narrows it to what one of them does.
func (u *pages) access(w http.ResponseWriter, r *http.Request) error {
	a, err := u.Access.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	a.Reader = strings.TrimSpace(r.URL.Query().Get("reader"))
	a.Readers = readerChoices(a)
	if a.Reader != "" {
		a = ofReader(a)
	}
	return show(w, r, http.StatusOK, view.AccessPage(u.frame(r, "access", "Who sees what"), a))
}

// readerChoices are all who are named anywhere, each once, by kind and name.
func readerChoices(a view.Access) []view.Choice {
	var out []view.Choice
	for _, s := range a.Sources {
		for _, x := range s.Readers {
			if !slices.ContainsFunc(out, func(c view.Choice) bool { return c.Value == x.ID }) {
				out = append(out, view.Choice{Value: x.ID, Text: x.Kind + " " + x.Label(), On: x.ID == a.Reader})
			}
		}
	}
	slices.SortFunc(out, func(x, y view.Choice) int { return strings.Compare(x.Text, y.Text) })
	return append([]view.Choice{{Value: "", Text: "Everybody", On: a.Reader == ""}}, out...)
}

// ofReader is what one reader has to do with.
func ofReader(a view.Access) view.Access {
	a.Sources = slices.DeleteFunc(slices.Clone(a.Sources), func(s view.SourceAccess) bool {
		return !slices.ContainsFunc(s.Readers, func(x view.Reader) bool { return x.ID == a.Reader })
	})
	a.Hidden = nil
	return a
}

func (u *pages) accessForm(w http.ResponseWriter, r *http.Request) error {
	var n *view.Notice
	if r.URL.Query().Has("saved") {
		n = &view.Notice{Tone: view.OK, Title: "Saved", Text: "It counts from the next read on, and it is on record."}
	}
	return u.accessPage(w, r, http.StatusOK, nil, n)
}

// accessPage shows one source's readers; audience is what stands in the form, nil
// = what is in force.
func (u *pages) accessPage(w http.ResponseWriter, r *http.Request, code int, audience []string, n *view.Notice) error {
	a, err := u.Access.Get(r.Context(), who(r), r.PathValue("name"))
	if err != nil {
		return err
	}
	if audience == nil {
		audience = a.Audience
	}
	f := audienceForm(audience, a.Groups)
	manage := u.May(r.Context(), who(r), auth.SourceManage, auth.Source(a.Source))
	return show(w, r, code, view.AccessSourcePage(u.frame(r, "access", "Who sees "+a.Source), a, f, n, manage))
}

func (u *pages) accessSave(w http.ResponseWriter, r *http.Request) error {
	if err := readForm(r); err != nil {
		return err
	}
	name, audience := r.PathValue("name"), audienceOf(r)
	good, err := checkedAudience(audience)
	if err == nil {
		err = u.Access.Set(r.Context(), who(r), name, good)
	}
	if wrong, n, ok := wrongInput(err); ok {
		if n == nil {
			n = &view.Notice{Tone: view.Bad, Title: "Nothing was changed", Text: wrong["audience"]}
		}
		return u.accessPage(w, r, http.StatusUnprocessableEntity, audience, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, "/access/"+url.PathEscape(name)+"?saved")
}

// audienceOf is what a form names: roles that are ticked, and one group or person
// on each line.
func audienceOf(r *http.Request) []string {
	out := slices.Concat(r.PostForm["role"], r.PostForm["group"])
	return append(out, strings.Fields(r.PostFormValue("others"))...)
}

func checkedAudience(audience []string) ([]string, error) {
	good, err := graph.CheckAudience(audience)
	if err != nil {
		return nil, &InputError{Field: "audience", Text: Sentence(err)}
	}
	return good, nil
}

// roleHints say who has a role.
func roleHints() map[auth.Role]string {
	return map[auth.Role]string{
		auth.Asker:         "Everyone who may ask: builders, approvers and administrators are users too.",
		auth.Builder:       "Whoever makes agents, and administrators.",
		auth.Administrator: "Whoever connects systems and sets policy.",
		auth.Approver:      "Whoever approves what agents want to do.",
		auth.Auditor:       "Reads the record. No policy of the house lets auditors read sources.",
		auth.Operator:      "Runs the nodes. No policy of the house lets operators read sources.",
	}
}

// audienceForm fills the form with an audience.
func audienceForm(audience []string, groups []view.Choice) view.AudienceForm {
	f := view.AudienceForm{Groups: slices.Clone(groups)}
	for i := range f.Groups {
		f.Groups[i].On = slices.Contains(audience, f.Groups[i].Value)
	}
	hints := roleHints()
	for _, role := range []auth.Role{auth.Asker, auth.Builder, auth.Administrator, auth.Approver, auth.Auditor, auth.Operator} {
		on := slices.Contains(audience, string(role))
		if role == auth.Auditor || role == auth.Operator {
			if !on {
				continue // nothing that they could do with it
			}
		}
		f.Roles = append(f.Roles, view.Choice{Value: string(role), Text: string(role), Hint: hints[role], On: on})
	}
	for _, entry := range audience {
		known := slices.ContainsFunc(groups, func(c view.Choice) bool { return c.Value == entry })
		if graph.KindOfReader(entry) != graph.ReaderRole && !known {
			f.Others += entry + "\n"
		}
	}
	f.Others = strings.TrimSuffix(f.Others, "\n")
	return f
}
