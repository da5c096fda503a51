package ui_test

import (
	"strings"
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/ui/uitest"
)

const someCA = "-----BEGIN CERTIFICATE-----"

// aDirectory is the form's fields but for the password.
func aDirectory(more ...string) []string {
	return append([]string{"name", "branch", "servers", "ldaps://dc1.meridian.example,\nldaps://dc2.meridian.example", "ca", someCA, "bind", "CN=s", "base", "DC=meridian,DC=example"}, more...)
}

// Testing and joining are two buttons of one form; the password goes in and never
// comes back.
func TestJoiningADirectoryByTheForm(t *testing.T) {
	w := uitest.Empty()
	w.FinishSetup()
	p := visit(t, w, true)
	p.want(p.get("/directories"), 200, "No directory is joined", "/directories/add")
	const secret = "hunter2-hunter2"
	tested := p.post("/directories/add", aDirectory("password", secret, "do", "test")...)
	p.want(tested, 200, "What the test saw", "all is well", "ldaps://dc1.meridian.example ldaps://dc2.meridian.example", `value="branch"`)
	wrong := p.post("/directories/add", aDirectory("password", "wrong", "do", "join")...)
	p.want(wrong, 422, "Next: check the account", "not yet", `value="branch"`)
	if strings.Contains(tested.Body.String(), secret) || strings.Contains(wrong.Body.String(), `value="wrong"`) {
		t.Error("the password came back to the page")
	}
	p.want(p.post("/directories/add", aDirectory("password", secret, "do", "join", "name", "x")...), 303, "/directories?joined")
	p.want(p.get("/directories?joined"), 200, "The directory is joined", "No group gives a role yet", "/directories/branch/groups")
}

func TestAnAPIKeyInTheDirectoryFormGoesNoFurther(t *testing.T) {
	p := visit(t, uitest.Full(), true)
	const key = "cl_3hq8zk5n0v7w2c9d_ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKLMNOPQRSTUVWXYZ"
	got := p.post("/directories/add", aDirectory("password", "x", "filter", key, "do", "join")...)
	p.want(got, 422)
	if strings.Contains(got.Body.String(), key) {
		t.Error("the key came back to the page")
	}
}

func TestGivingAGroupARole(t *testing.T) {
	w := uitest.Full()
	p := visit(t, w, true)
	p.want(p.post("/directories/corp/groups", "search", "fin"), 200, "Finance", "c1b7a5e2-2d0f-4f55-8f7e-93f4f1e0aa01")
	p.want(p.post("/directories/corp/groups", "search", "zzz"), 200, "No group’s name contains that")
	p.want(p.post("/directories/corp/grant", "group", "c1b7a5e2-2d0f-4f55-8f7e-93f4f1e0aa01", "role", "user"), 303, "/directories?granted")
	p.want(p.post("/directories/corp/grant", "group", "c1b7a5e2-2d0f-4f55-8f7e-93f4f1e0aa01", "role", "auditor", "search", "fin"), 422, "Nobody makes themselves auditor or approver", "Finance")
	p.want(p.post("/directories/corp/revoke", "group", "c1b7a5e2-2d0f-4f55-8f7e-93f4f1e0aa01", "role", "user"), 303, "/directories?revoked")
	p.want(p.get("/directories/corp/remove"), 200, "Leave the directory “corp”?", "signed out on every node")
	p.want(p.post("/directories/corp/remove"), 303, "/directories?left")
	p.want(p.get("/directories/corp/remove"), 404)
	w.Deny(auth.DirectoryManage, "default-deny")
	p.want(p.get("/directories"), 403, "default-deny")
	if home := p.get("/"); strings.Contains(strings.ReplaceAll(home.Body.String(), `<li hidden><a href="/directories"`, ""), `href="/directories"`) {
		t.Error("the directory is offered to somebody who may not manage it")
	}
}
