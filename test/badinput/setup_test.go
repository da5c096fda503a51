package badinput

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAWrongSetupCodeIsSlowedRecordedAndForgiven(t *testing.T) {
	t.Parallel()
	n := begun(t)
	b, err := os.ReadFile(n.setupFile())
	if err != nil {
		t.Fatal(err)
	}
	guess := n.file("guess.json", strings.Replace(string(b), n.setup.Code, "AAAAA-BBBBB-CCCCC-DDDDD", 1))
	try := func(file string) said {
		return n.run(password+"\n", nil, "setup", "--from", file, "--user", "ada", "--password-stdin")
	}
	for range 5 {
		try(guess).isWrong(t, "setup code is wrong", "printed where the node was started")
	}
	try(guess).isWrong(t, "too many attempts", "try again in")
	a := n.send("POST", "/api/v1/setup", strings.NewReader(`{"code":"x","user":"ada","password":"`+password+`"}`), "Content-Type", "application/json")
	a.isProblem(t, "a guess too soon", 429)
	if a.header.Get("Retry-After") == "" {
		t.Error("a guess too soon is not told when to come back")
	}
	eventually(t, "the right code works after the wait", func() error {
		if s := try(n.setupFile()); s.code != 0 {
			return &failed{s}
		}
		return nil
	})
	try(guess).isWrong(t, "setup has been done", "sign in")
	var page struct {
		Records []struct {
			Record struct {
				Action string
				Detail struct{ Attempt int }
			}
		}
	}
	if err := json.Unmarshal([]byte(n.audit("--action", "session.setup-failed")), &page); err != nil {
		t.Fatal(err)
	}
	if len(page.Records) < 5 {
		t.Errorf("%d wrong codes are on record, wanted at least 5", len(page.Records))
	}
	if strings.Contains(n.audit(), "AAAAA") {
		t.Error("what was guessed is on record")
	}
}

// failed is a command's failure as an error.
type failed struct{ said }

func (f *failed) Error() string { return f.err }

func TestAnAdministratorWhoCannotBe(t *testing.T) {
	t.Parallel()
	n := begun(t)
	try := func(user, password string) said {
		return n.run(password+"\n", nil, "setup", "--from", n.setupFile(), "--user", user, "--password-stdin")
	}
	for _, name := range []string{"ada\x07", "ada\u202e", "a\u200bda", "\x1b[2J", strings.Repeat("a", 150), "   "} {
		try(name, password).isWrong(t, "user name")
	}
	try("ada", "short").isWrong(t, "password", "12")
	try("ada ada ada ada", "Ada Ada Ada Ada").isWrong(t, "password")
	try("ada", "").isWrong(t, "standard input holds no password")
	n.run("", nil, "setup", "--from", n.setupFile(), "--user", "ada").isWrong(t, "--password-stdin")
	n.run(password, nil, "setup", "--from", n.file("other.json", "{}"), "--user", "ada", "--password-stdin").isWrong(t, "is not a file that a node wrote")
	n.setUp() // the code is still good
}

func TestASecretInTheWrongPlaceGoesNoFurther(t *testing.T) {
	t.Parallel()
	n := ready(t)
	key := n.key("narrow", "--scope", "ask")
	json := func(s string) *strings.Reader { return strings.NewReader(s) }
	js := []string{"Content-Type", "application/json"}
	n.send("POST", "/api/v1/login", json(`{"user":"`+key+`","password":"x"}`), js...).isProblem(t, "a key as user name", 400, "wrong place")
	n.send("POST", "/api/v1/login", json(`{"user":"ada","password":"`+key+`"}`), js...).isProblem(t, "a key as password", 400, "wrong place")
	n.send("GET", "/api/v1/status?token="+key, nil).isProblem(t, "a key in a query", 400, "wrong place")
	n.send("GET", "/"+key, nil).isProblem(t, "a key in a path", 400, "wrong place")
	n.send("GET", "/api/v1/status", nil, "X-Api-Key", key).isProblem(t, "a key in a header of its own", 400, "wrong place")
	a := n.send("GET", "/api/v1/status", nil, "X-Request-Id", key)
	a.isProblem(t, "a key as request id", 400)
	if strings.Contains(a.header.Get("X-Request-Id")+a.body, key) {
		t.Error("a key as request id comes back")
	}
	n.send("GET", "/api/v1/status", nil, "Authorization", "Basic "+key).isProblem(t, "a key as basic authorization", 400, "wrong place")
	n.send("GET", "/api/v1/status", nil, "Cookie", "__Host-cloister="+key).isProblem(t, "a key as cookie", 400, "wrong place")
	n.send("POST", "/api/v1/keys", json(`{"name":"`+key+`","scopes":["ask"]}`), bearer(n.token())...).isProblem(t, "a key as a key's name", 422, "wrong place")
	n.send("POST", "/api/v1/sources", json(`{"name":"`+key+`","kind":"files","path":"/tmp"}`), bearer(n.token())...)
	a = n.send("POST", "/api/v1/sources", json(`{"name":"x","kind":"files","path":"/tmp/`+key+`"}`), bearer(n.token())...)
	a.isProblem(t, "a key as path", 422)
	if strings.Contains(a.body, key) {
		t.Error("a key as path comes back")
	}
	n.send("POST", "/sign-in", json("user="+key+"&password=x"), "Content-Type", "application/x-www-form-urlencoded", "Origin", n.setup.URL)
	n.send("POST", "/api/v1/ask", json(`{"question":"Whose key is `+key+`?"}`), bearer(n.token())...).isProblem(t, "a key in a question", 422, "wrong place")
	n.run("", nil, "ask", "Whose key is "+key+"?").isWrong(t, "wrong place")
	a = n.send("GET", "/sign-in?next=/"+key, nil)
	if strings.Contains(a.body, key) {
		t.Error("a key comes back in a page")
	}
	n.run(key+"\n", nil, "login", "--user", "ada", "--password-stdin").isWrong(t, "wrong place")
	n.run(password+"\n", nil, "login", "--user", key, "--password-stdin").isWrong(t, "wrong place")
	secret := key[strings.LastIndex(key, "_")+1:]
	if strings.Contains(n.audit(), secret) {
		t.Error("a key is on record")
	}
	log, err := os.ReadFile(n.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), secret) {
		t.Error("a key is in the log")
	}
	n.kill()
	nowhere(t, n.data, secret)
}

// nowhere asks that no file of a folder holds a text.
func nowhere(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
