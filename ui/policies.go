package ui

import (
	"net/http"

	"github.com/cloister-os/cloister/ui/view"
)

func (u *pages) policies(w http.ResponseWriter, r *http.Request) error {
	list, err := u.Policies.List(r.Context(), who(r))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.PoliciesPage(u.frame(r, "policies", "Policies"), list))
}

func (u *pages) policy(w http.ResponseWriter, r *http.Request) error {
	p, err := u.Policies.Get(r.Context(), who(r), r.PathValue("id"))
	if err != nil {
		return err
	}
	return show(w, r, http.StatusOK, view.PolicyPage(u.frame(r, "policies", p.ID), p))
}
