package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"cloister": main})
}

// The scripts under testdata are what a person could type.
func TestScripts(t *testing.T) {
	var slapd *directorytest.Server // of the script directory
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("XDG_CONFIG_HOME", filepath.Join(home, ".config"))
			env.Setenv("GIT_CONFIG_NOSYSTEM", "1")
			for _, who := range []string{"AUTHOR", "COMMITTER"} {
				env.Setenv("GIT_"+who+"_NAME", "Ada Example")
				env.Setenv("GIT_"+who+"_EMAIL", "ada@example.org")
				env.Setenv("GIT_"+who+"_DATE", "2026-03-04T05:06:07Z")
			}
			for i, port := range freePorts(t, 6) {
				env.Setenv(fmt.Sprintf("%s%d", []string{"WEB", "PEER"}[i%2], i/2+1), port)
			}
			if strings.HasSuffix(env.WorkDir, "script-directory") {
				var err error
				if slapd, err = giveDirectory(t, env); err != nil {
					return err
				}
			}
			return os.MkdirAll(home, 0o700)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"dismiss": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: dismiss DN")
				}
				slapd.Delete(t, args[0])
			},
			"await": await, "mode": mode, "field": field, "eventually": eventually, "matches": matches,
		},
	})
}

// giveDirectory starts slapd for a script, with somebody in two groups.
func giveDirectory(t *testing.T, env *testscript.Env) (*directorytest.Server, error) {
	if why := directorytest.SlapdReason(); why != "" {
		t.Skip(why)
	}
	const grace = "uid=grace,dc=example,dc=org"
	d := directorytest.Slapd(t, directorytest.PersonEntry("grace", "displayName: Grace Example")+directorytest.PersonEntry("heidi")+
		directorytest.GroupEntry("staff", grace)+directorytest.GroupEntry("watchers", grace))
	env.Setenv("LDAPS", d.LDAPS)
	env.Setenv("BINDDN", d.BindDN)
	env.Setenv("BASE", d.Base)
	for name, content := range map[string]string{"directory-ca.pem": string(d.CA), "bind-password": d.BindPassword + "\n", "grace-password": directorytest.Password + "\n"} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), []byte(content), 0o600); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// await waits until a file is there.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await FILE")
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(ts.MkAbs(args[0])); err == nil {
			return
		}
	}
	ts.Fatalf("%s did not appear within a minute", args[0])
}

// mode compares a file's permissions, in octal.
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: mode 600 FILE")
	}
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := strconv.FormatUint(uint64(info.Mode().Perm()), 8); got != args[0] {
		ts.Fatalf("%s has mode %s", args[1], got)
	}
}

// freePorts are ports that nobody listened on a moment ago.
func freePorts(t *testing.T, n int) []string {
	t.Helper()
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // after all of them are chosen
		_, port, err := net.SplitHostPort(l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, port)
	}
	return out
}

// field takes a member of the JSON that was printed last into a variable.
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: field VARIABLE MEMBER")
	}
	var all map[string]any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &all))
	value, ok := all[args[1]].(string)
	if !ok {
		ts.Fatalf("there is no text %q in %v", args[1], all)
	}
	ts.Setenv(args[0], value)
}

// eventually runs a command until it prints what matches.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: eventually PATTERN COMMAND…")
	}
	pattern := regexp.MustCompile(args[0])
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if ts.Exec(args[1], args[2:]...) == nil && pattern.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%v does not print %s; at last: %s%s", args[1:], args[0], ts.ReadFile("stdout"), ts.ReadFile("stderr"))
}

// matches writes what a pattern finds in what was printed last (its group, when it
// has one) to a file, one find a line.
func matches(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: matches FILE PATTERN")
	}
	var out []byte
	for _, m := range regexp.MustCompile(args[1]).FindAllStringSubmatch(ts.ReadFile("stdout"), -1) {
		out = append(append(out, m[len(m)-1]...), '\n')
	}
	if len(out) == 0 {
		ts.Fatalf("nothing that was printed matches %s", args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out, 0o600))
}
