package badinput

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestASourceThatCannotBeRead(t *testing.T) {
	t.Parallel()
	n := ready(t)
	dir := filepath.Dir(n.file("docs/a.md", "# A\n\nThe depot opens at seven.\n"))
	add := func(kind, name, path string) said { return n.run("", nil, "source", "add", kind, name, "--path", path) }
	add("git", "code", dir).isWrong(t, "not a git repository")
	add("git", "code", dir+"/none").isWrong(t, "none")
	add("git", "code", dir+"/a.md").isWrong(t, "a.md")
	empty := filepath.Join(filepath.Dir(n.home), "empty")
	if out, err := exec.Command("git", "init", "-q", empty).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v %s", err, out)
	}
	if err := os.WriteFile(filepath.Join(empty, ".git", "HEAD"), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	add("git", "code", empty).isWrong(t, "not a git repository", "HEAD")
	add("files", "docs", dir+"/none").isWrong(t, "no folder", "check the path")
	add("files", "docs", dir+"/a.md").isWrong(t, "folder")
	add("files", "docs", strings.Repeat("/x", 2100)).isWrong(t)
	add("files", "docs", "").isWrong(t, "--path")
	add("files", "docs", dir+"\x1b[2J").isWrong(t)
	for _, name := range []string{"a b", "a/b", "..", ".hidden", "-x", "a\x07", "a\u202eb", "", strings.Repeat("n", 65), "\xff", "cl_abcdefgh234567ab_" + strings.Repeat("A", 40)} {
		n.run("", nil, "source", "add", "files", "--path", dir, "--", name).isWrong(t)
	}
	n.wrong([]string{"source", "sync", "none", "--wait"}, `no source "none"`)
	n.wrong([]string{"source", "remove", "none"}, `no source "none"`)
	n.wrong([]string{"source", "remove", "../../etc"}, "no source")
	if out := n.ok("source", "list", "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("sources that cannot be are there: %s", out)
	}
	if s := add("files", "docs", dir); s.code != 0 {
		t.Fatal(s.err)
	}
	add("files", "docs", dir).isWrong(t, "docs", "already")
	n.ok("source", "sync", "docs", "--wait")
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	n.wrong([]string{"source", "sync", "docs", "--wait"}, "the sync of docs failed", "no folder")
	if out := n.ok("ask", "When does the depot open?"); !strings.Contains(out, "seven") {
		t.Errorf("a folder that is not mounted loses what was known: %s", out)
	}
	n.wrong([]string{"source", "add", "git", "docs2", "--path", dir + "-moved"}, "not a git repository")
}

func TestAFolderWithHostileFiles(t *testing.T) {
	t.Parallel()
	n := ready(t)
	dir := filepath.Dir(n.file("docs/good.md", "# Good\n\nThe ferry leaves at noon.\n"))
	secret := n.file("outside/secret.md", "# Secret\n\nThe vault opens with 4711.\n")
	huge, err := os.Create(filepath.Join(dir, "huge.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := huge.WriteAt([]byte("x"), 1<<30-1); err != nil {
		t.Fatal(err)
	}
	huge.Close()
	link := func(target, name string) {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link(secret, "link.md")
	link("../outside/secret.md", "relative.md")
	link(filepath.Dir(secret), "folder")
	link("/", "root")
	link(".", "loop")
	link("/proc/self/environ", "environ.txt")
	link("nowhere", "dangling.md")
	n.file("docs/bell\x07\x1b[2J.md", "# Bell\n\nThe bell rings at dusk.\n")
	n.file("docs/line\nbreak.md", "# Break\n\nThe break lasts ten minutes.\n")
	n.file("docs/\xff\xfe.md", "# Bytes\n\nThe bytes are not letters.\n")
	n.file("docs/right\u202eleft.md", "# Turn\n\nThe turn is at the mill.\n")
	n.file("docs/binary.md", "\x00\x01\x02\x00")
	n.file("docs/latin.txt", "caf\xe9 cr\xe8me")
	n.file("docs/empty.md", "")
	if out, err := exec.Command("mkfifo", filepath.Join(dir, "pipe.md")).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v %s", err, out)
	}
	n.ok("source", "add", "files", "docs", "--path", dir)
	out := n.ok("source", "sync", "docs", "--wait")
	for _, want := range []string{"huge.txt: ", "link.md: ", "relative.md: ", "binary.md: "} {
		if !strings.Contains(out, want) {
			t.Errorf("the sync does not say that it left out %s\n%s", want, out)
		}
	}
	for _, line := range strings.Split(out, "\n") {
		if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u202e' }) {
			t.Errorf("the sync sends control characters to the terminal: %q", line)
		}
	}
	for question, word := range map[string]string{"When does the ferry leave?": "noon", "When does the bell ring?": "dusk", "How long does the break last?": "ten"} {
		if out := n.ok("ask", question); !strings.Contains(out, word) {
			t.Errorf("%s\n%s", question, out)
		}
	}
	all := n.ok("ask", "--json", "What does the vault open with?") + n.ok("source", "list", "--json")
	if strings.Contains(all, "4711") {
		t.Errorf("what lies outside the folder was read: %s", all)
	}
	if strings.Contains(n.ok("ask", "--json", "What is in the environment PATH?"), "/usr/bin") {
		t.Error("the node's environment was read")
	}
	resident(t, n, 700<<20)
}

// resident asks that the node never held more than so many bytes.
func resident(t *testing.T, n *node, most int) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(n.process.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kb int
			if err := json.Unmarshal([]byte(strings.TrimSpace(strings.TrimSuffix(rest, "kB"))), &kb); err != nil {
				t.Fatal(err)
			}
			if kb<<10 > most {
				t.Errorf("the node held %d MiB", kb>>10)
			}
		}
	}
}
