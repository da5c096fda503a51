package badinput

import (
	"strings"
	"testing"
)

func TestACommandThatCannotBe(t *testing.T) {
	t.Parallel()
	n := newNode(t) // nothing here reaches a node
	for _, c := range []struct {
		args  []string
		words []string
	}{
		{[]string{"sorce"}, []string{`no command "sorce"`, "source"}},
		{[]string{"source", "ad"}, []string{"source ad", "add", "--help"}},
		{[]string{"source"}, []string{"say what to do", "--help"}},
		{[]string{"\x1b[2Jx"}, []string{"no command"}},
		{[]string{"ask", "--jsn", "x"}, []string{"--jsn", "--help"}},
		{[]string{"ask"}, []string{"QUESTION is missing"}},
		{[]string{"ask", "", "  "}, []string{"QUESTION is missing"}},
		{[]string{"source", "add", "git"}, []string{"NAME is missing"}},
		{[]string{"source", "add", "cvs", "x", "--path", "y"}, []string{"git or files"}},
		{[]string{"source", "remove", "a", "b"}, []string{`"b" is too much`}},
		{[]string{"setup"}, []string{"--from"}},
		{[]string{"setup", "--from", "none.json", "--user", "ada"}, []string{"none.json", "cloister login"}},
		{[]string{"key", "create", "x"}, []string{"--scope"}},
		{[]string{"key", "create", "x", "--scope", "ask", "--ttl", "1s"}, []string{"whole hours"}},
		{[]string{"key", "create", "x", "--scope", "ask", "--ttl", "soon"}, []string{"--ttl"}},
		{[]string{"audit", "export"}, []string{"--out"}},
		{[]string{"audit", "list", "--since", "yesterday"}, []string{"2026-01-31"}},
		{[]string{"audit", "list", "--limit", "many"}, []string{"--limit"}},
		{[]string{"policy", "put"}, []string{"FILE is missing"}},
		{[]string{"model", "import"}, []string{"FILE is missing"}},
		{[]string{"serve"}, []string{"--data"}},
		{[]string{"status"}, []string{"cloister login --url"}},
		{[]string{"source", "list", "--json"}, []string{"cloister login --url"}},
		{[]string{"engine"}, []string{"cloister serve"}},
		{[]string{"runner"}, []string{"cloister serve"}},
	} {
		s := n.run("", nil, c.args...)
		if c.args[0] == "engine" || c.args[0] == "runner" {
			s.err = strings.Replace(s.err, "cloister "+c.args[0]+":", "cloister:", 1)
		}
		s.isWrong(t, c.words...)
	}
}

func TestAShellThatReachesNoNode(t *testing.T) {
	t.Parallel()
	n, other := ready(t), begun(t)
	ca := "CLOISTER_CA=" + n.setup.CA
	status := func(env ...string) said { return n.run("", env, "status") }
	status("CLOISTER_URL=https://localhost:1").isWrong(t, "no node answers", "cloister serve")
	for _, bad := range []string{"ftp://localhost", "http://localhost:8443", "localhost:8443", "https://", "https://%zz", "https://user:pw@localhost:1", "x\x1b[2J"} {
		status("CLOISTER_URL=" + bad).isWrong(t)
	}
	status("CLOISTER_URL=https://no-such-host.invalid:8443").isWrong(t, "no-such-host.invalid")
	status("CLOISTER_CA="+other.setup.CA).isWrong(t, "not of the authority", "--ca")
	status("CLOISTER_CA="+n.home+"/none.pem").isWrong(t, "none.pem")
	status("CLOISTER_CA="+n.file("no.pem", "no certificate")).isWrong(t, "pem")
	status("CLOISTER_URL="+strings.Replace(n.setup.URL, "localhost", "127.0.0.1", 1), ca, "CLOISTER_TOKEN=x").isWrong(t)
	status("CLOISTER_TOKEN=nonsense").isWrong(t, "not signed in")
	status("CLOISTER_TOKEN=a\nb").isWrong(t)
	status("CLOISTER_TOKEN=cl_aaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbb").isWrong(t, "API key is not valid")
	key := n.key("brief", "--scope", "ask")
	if s := status("CLOISTER_TOKEN=" + key); s.code != 0 {
		t.Fatalf("a key that is good: %s", s.err)
	}
	n.ok("key", "revoke", strings.Split(key, "_")[1])
	status("CLOISTER_TOKEN="+key).isWrong(t, "API key is not valid")
	n.wrong([]string{"key", "revoke", strings.Split(key, "_")[1]}, "key")
	n.run("wrong password here\n", nil, "login", "--user", "ada", "--password-stdin").isWrong(t, "user name or the password is wrong")
	n.run(password+"\n", nil, "login", "--user", "eve", "--password-stdin").isWrong(t, "user name or the password is wrong")
	n.ok("logout")
	status().isWrong(t, "sign")
	n.wrong([]string{"logout"}, "not signed in")
}

func TestACommandThatTheNodeRefuses(t *testing.T) {
	t.Parallel()
	n := ready(t)
	n.wrong([]string{"ask", strings.Repeat("long ", 20<<10)}, "too large", "send less")
	n.wrong([]string{"ask", strings.Repeat("long ", 2<<10)}, "4000")
	n.run("", nil, "ask", "a\xff\x07b\x1b[2J").print(t)
	n.wrong([]string{"key", "create", "x", "--scope", "everything"}, "everything", "ask, source, model")
	n.wrong([]string{"key", "create", "x", "--scope", "ask", "--ttl", "9000h"})
	n.wrong([]string{"key", "create", "a\x07b", "--scope", "ask"}, "printable")
	n.wrong([]string{"audit", "list", "--kind", "gossip"}, "intent")
	n.wrong([]string{"audit", "list", "--limit", "100000"}, "limit")
	n.wrong([]string{"audit", "export", "--out", n.home + "/none/x"}, "none")
	n.wrong([]string{"audit", "export", "--out", n.home + "/x", "--from", "9", "--to", "3"}, "ends before it begins")
	before := n.ok("policy", "list", "--json")
	policy := func(text string, words ...string) {
		t.Helper()
		n.run(text, nil, "policy", "put", "-").isWrong(t, words...)
	}
	policy("", "@id")
	policy("permit (principal, action, resource);", "@id")
	policy("@id(\"x\")\n\npermit (principal,\n  action nonsense, resource);", "line 4")
	policy("@id(\"x\") permit (principal, action == Action::\"fly\", resource);", "fly", "line 1")
	policy("@id(\"x\") permit (principal, action, resource) when { principal.height > 3 };", "line 1")
	policy("@id(\"X Y\") permit (principal, action, resource);", "@id")
	policy("@id(\"x\") @reason(\"y\") permit (principal, action, resource);", "reason")
	policy("@id(\"x\") permit (principal, action, resource); @id(\"y\") permit (principal, action, resource);", "2 policies")
	policy("@id(\"x\") permit (principal, action, resource); // " + strings.Repeat("x", 40<<10))
	n.wrong([]string{"policy", "put", n.home + "/none.cedar"}, "none.cedar")
	n.wrong([]string{"policy", "remove", "none"}, "policy list")
	n.wrong([]string{"policy", "show", "none"}, "policy list")
	if after := n.ok("policy", "list", "--json"); after != before {
		t.Errorf("policies changed\nfrom %s\nto   %s", before, after)
	}
}

// print asks that what a command printed does not move the cursor.
func (s said) print(t testing.TB) {
	t.Helper()
	if strings.ContainsFunc(s.out+s.err, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("cloister %q sends control characters to the terminal: %q %q", s.args, s.out, s.err)
	}
}
