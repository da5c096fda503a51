package ui

import (
	"errors"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/view"
)

const recentOnHome = 6

// home gathers what the person may see; a part that policy refuses is left out.
func (u *pages) home(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), who(r)
	var h view.Home
	var err error
	if u.noSources(ctx, p) != nil {
		return u.homeElsewhere(w, r)
	}
	if h.Sources, err = u.Sources.List(ctx, p); !unseen(&err) && err != nil {
		return err
	}
	if h.Recent, _, err = u.Talks.List(ctx, p, "", "", recentOnHome); !unseen(&err) && err != nil {
		return err
	}
	if u.May(ctx, p, auth.AuditRead, auth.AuditLog) {
		if h.Log, err = u.Records.Log(ctx, p); !unseen(&err) && err != nil {
			return err
		}
	}
	if h.Hidden = !u.May(ctx, p, auth.ModelList, auth.TheSystem); !h.Hidden {
		models, err := u.Models.List(ctx, p)
		if !unseen(&err) && err != nil {
			return err
		}
		h.Models = models.List
	}
	h.Try = try(h.Sources)
	h.Manage = u.manages(r)
	h.Steps = steps(h, u.isAdministrator(p))
	return show(w, r, http.StatusOK, view.HomePage(u.frame(r, "home", "Home"), h))
}

// homeElsewhere is home for whoever neither asks nor connects anything, such as
// an auditor or an operator: what there is for them to do.
func (u *pages) homeElsewhere(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), who(r)
	h := view.Home{Elsewhere: true}
	if u.May(ctx, p, auth.AuditRead, auth.AuditLog) {
		var err error
		if h.Log, err = u.Records.Log(ctx, p); !unseen(&err) && err != nil {
			return err
		}
	}
	return show(w, r, http.StatusOK, view.HomePage(u.frame(r, "home", "Home"), h))
}

// unseen reports that policy hides this part, and clears the error.
func unseen(err *error) bool {
	if errors.Is(*err, auth.ErrDenied) {
		*err = nil
		return true
	}
	return false
}

func (u *pages) isAdministrator(p auth.Principal) bool {
	for _, role := range p.Roles {
		if role == auth.Administrator {
			return true
		}
	}
	return false
}

// steps is what a new installation still lacks; the first open one is "now".
func steps(h view.Home, administrator bool) []view.NextStep {
	if !administrator {
		return nil
	}
	list := []view.NextStep{
		{
			Title: "Connect a source", Done: len(h.Sources) > 0,
			Text:   "A git repository or a folder of documents on this machine. Reading begins at once.",
			Action: view.Link{Text: "Add source", URL: "/sources/add"},
		},
		{
			Title: "Ask a question", Done: len(h.Recent) > 0,
			Text:   "Every answer shows what it was read from, to the byte.",
			Action: view.Link{Text: "Ask", URL: "/ask"},
		},
		{
			Title: "Import a model", Done: len(h.Models) > 0,
			Text:   "Optional. An embedding model finds passages by meaning, not by their words alone.",
			Action: view.Link{Text: "Import", URL: "/models"},
		},
	}
	for i := range list {
		if !list[i].Done {
			list[i].Now = true
			break
		}
	}
	return list
}

const maxTry = 3

// try suggests questions that the connected sources can answer.
func try(sources []view.Source) (out []string) {
	for i := 0; len(out) < maxTry; i++ {
		some := false
		for _, s := range sources {
			if i < len(s.Try) && len(out) < maxTry {
				out, some = append(out, s.Try[i]), true
			}
		}
		if !some {
			break
		}
	}
	return out
}
