package ui

import (
	"net/http"
	"net/url"
	"slices"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) nodes(w http.ResponseWriter, r *http.Request) error {
	var n *view.Notice
	switch q := r.URL.Query(); {
	case q.Has("removed"):
		n = &view.Notice{Tone: view.OK, Title: "Node removed", Text: "It is told so when it knocks again. Its data folder is of no use any more."}
	case q.Has("lead"):
		n = &view.Notice{Tone: view.OK, Title: "The lead was handed over"}
	}
	return u.nodesPage(w, r, http.StatusOK, n)
}

func (u *pages) nodesPage(w http.ResponseWriter, r *http.Request, code int, n *view.Notice) error {
	d, err := u.Nodes.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	return show(w, r, code, view.NodesPage(u.frame(r, "nodes", "Nodes"), d, n))
}

// nodesDone shows the list again when the person can do something about the
// error, and leads to it when there was none.
func (u *pages) nodesDone(w http.ResponseWriter, r *http.Request, err error, then string) error {
	if _, n, ok := wrongInput(err); ok && n != nil {
		return u.nodesPage(w, r, http.StatusUnprocessableEntity, n)
	}
	if err != nil {
		return err
	}
	return goTo(w, r, then)
}

// nodeInvite shows the token in the answer to the form itself: it exists nowhere
// else, so there is no address to come back to.
func (u *pages) nodeInvite(w http.ResponseWriter, r *http.Request) error {
	i, err := u.Nodes.Invite(r.Context(), who(r))
	if err != nil {
		return u.nodesDone(w, r, err, "")
	}
	return show(w, r, http.StatusOK, view.InvitedPage(u.frame(r, "nodes", "Invitation"), i))
}

// node is the node that the address names.
func (u *pages) node(r *http.Request) (view.Node, error) {
	d, err := u.Nodes.List(r.Context(), who(r))
	if err != nil {
		return view.Node{}, err
	}
	i := slices.IndexFunc(d.List, func(n view.Node) bool { return n.Name == r.PathValue("name") })
	if i < 0 {
		return view.Node{}, store.ErrNotFound
	}
	return d.List[i], nil
}

var toNodes = []view.Link{{Text: "Nodes", URL: "/nodes"}}

func (u *pages) nodeLeadForm(w http.ResponseWriter, r *http.Request) error {
	n, err := u.node(r)
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "nodes", "Let "+n.Name+" lead"), view.Confirm{
		Title: "Let " + n.Name + " lead?", Way: toNodes,
		Effects: []string{"Writes wait for a moment, less than a second as a rule, and go on through " + n.Name + "."},
		After:   "The lead can be handed back at any time.", Action: "/nodes/" + url.PathEscape(n.Name) + "/lead", Button: "Hand over the lead",
	}))
}

func (u *pages) nodeLead(w http.ResponseWriter, r *http.Request) error {
	return u.nodesDone(w, r, u.Nodes.Lead(r.Context(), who(r), r.PathValue("name")), "/nodes?lead")
}

func (u *pages) nodeRemoveForm(w http.ResponseWriter, r *http.Request) error {
	n, err := u.node(r)
	if err != nil {
		return err
	}
	effects := []string{
		n.Name + " is out of the cluster for ever: its vote does not count, and its data folder is of no use any more.",
		"The others go on without it. With two nodes left, neither may stop.",
	}
	if n.Self {
		effects = append(effects, "It is the node that you are looking at: sign in at another one afterwards.")
	}
	return show(w, r, http.StatusOK, view.ConfirmPage(u.frame(r, "nodes", "Remove "+n.Name), view.Confirm{
		Title: "Remove " + n.Name + "?", Way: toNodes, Effects: effects,
		After: "The machine may join again with an empty data folder and a new invitation.", Action: "/nodes/" + url.PathEscape(n.Name) + "/remove", Button: "Remove node",
	}))
}

func (u *pages) nodeRemove(w http.ResponseWriter, r *http.Request) error {
	return u.nodesDone(w, r, u.Nodes.Remove(r.Context(), who(r), r.PathValue("name")), "/nodes?removed")
}
