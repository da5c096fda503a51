package pkg

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/mainjob"
	"github.com/cloister-os/cloister/test/medium"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

func TestMain(m *testing.M) {
	machine.Enter()
	os.Exit(m.Run())
}

// exposed is the most that systemd may find open on the unit, of 10.
const exposed = 1.7

// life is one machine's walk from the first install to the last.
type life struct {
	t     *testing.T
	ctx   context.Context
	node  *operator.Node
	lan   *machine.LAN
	world *world.World
	token string
	files map[string]string // version → the package's path on the machine
}

// TestFromInstallToReinstall installs each kind of package, starts, asks, edits
// the configuration, upgrades to a version with another configuration, is refused
// the way back, removes and reinstalls: nothing is lost, the edited setting stays
// in force, and nothing leaves the machine's network.
func TestFromInstallToReinstall(t *testing.T) {
	if why := machine.Reason(); why != "" {
		t.Skip(why)
	}
	stick := medium.New(t)
	changed := filepath.Join(t.TempDir(), "changed.toml")
	b, err := os.ReadFile("../../packaging/linux/cloister.toml")
	if err == nil {
		err = os.WriteFile(changed, append(b, "\n# A setting of the new version.\nsync.every = \"6m\"\n"...), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	newer := medium.Pack(t, "99.0.0", "CONFIG="+changed)
	t.Run("RPM", func(t *testing.T) {
		l := begin(t, stick, medium.Find(t, stick, "*.rpm"), newer.RPM)
		l.install("rpm", "-V", "--nodeps", "cloister")
		l.answers()
		l.edit()
		l.upgrade()
		if _, err := os.Stat(filepath.Join(l.node.Root, operator.Configuration+".rpmnew")); err != nil {
			t.Error("the new version's configuration was not put beside the edited one: ", err)
		}
		l.olderIsRefused("newer", "rpm", "-U", "--nodeps", l.files["old"])
		l.remove("rpm", "-e", "cloister")
		l.reinstall()
	})
	t.Run("DEB", func(t *testing.T) {
		l := begin(t, stick, medium.Find(t, stick, "*.deb"), newer.DEB)
		l.install("dpkg", "--verify", "cloister")
		l.edit()
		l.upgrade()
		l.olderIsRefused("CLOISTER_GO_BACK", "dpkg", "-i", l.files["old"])
		l.remove("dpkg", "-r", "cloister")
		l.reinstall()
	})
}

// begin boots a machine with the stick in it and a world to read.
func begin(t *testing.T, stick, old, newer string) *life {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	dir := filepath.Join(t.TempDir(), "world")
	w, err := world.New(dir, uint64(time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", w.Seed)
	lan := machine.NewLAN(t)
	m := lan.New(t, "one", stick+":/media/stick", filepath.Dir(newer)+":/media/newer", dir+":/srv/world")
	if err := m.Boot(ctx); err != nil {
		t.Fatal(err)
	}
	l := &life{t: t, ctx: ctx, node: operator.On(m), lan: lan, world: w, files: map[string]string{
		"old": "/media/stick/" + filepath.Base(old), "new": "/media/newer/" + filepath.Base(newer),
	}}
	t.Cleanup(func() {
		if frames := lan.Frames(); len(frames) > 0 {
			t.Errorf("%d packets left the network, the first of them: %s", len(frames), frames[0])
		}
		if t.Failed() {
			t.Logf("the node's log:\n%s", l.node.Journal(operator.Unit))
		}
	})
	return l
}

func (l *life) run(args ...string) string {
	l.t.Helper()
	out, err := l.node.Run(l.ctx, args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

func (l *life) cli(stdin string, args ...string) string {
	l.t.Helper()
	out, err := l.node.CLI(l.ctx, stdin, args...)
	if err != nil {
		l.t.Fatal(err)
	}
	return out
}

// install installs from the stick, sets up and reads the world. verify is the
// command that finds no file other than the package has it.
func (l *life) install(verify ...string) {
	l.t.Helper()
	out, err := l.node.Install(l.ctx, l.files["old"])
	if err != nil {
		l.t.Fatal(err)
	}
	if !strings.Contains(out, "systemctl enable --now cloister") {
		l.t.Errorf("the install does not say what comes next: %q", out)
	}
	if out := l.run(verify...); strings.TrimSpace(out) != "" {
		l.t.Errorf("files are not as the package has them: %s", out)
	}
	for path, want := range map[string]string{operator.Data: "cloister:cloister 700", operator.Configuration: "root:cloister 640"} {
		if got := strings.TrimSpace(l.run("stat", "-c", "%U:%G %a", path)); got != want {
			l.t.Errorf("%s is %s, wanted %s", path, got, want)
		}
	}
	if out := l.run("sh", "-c", "systemctl is-active cloister; true"); strings.TrimSpace(out) != "inactive" {
		l.t.Errorf("the install started the node: %q", out)
	}
	if err := l.node.Start(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	if err := l.node.Setup(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	l.hardened()
	for _, args := range [][]string{
		{"source", "add", "git", "code", "--path", "/srv/world/repository"},
		{"source", "add", "files", "docs", "--path", "/srv/world/documents"},
		{"source", "sync", "code", "--wait"},
		{"source", "sync", "docs", "--wait"},
	} {
		l.cli("", args...)
	}
	if l.token, err = l.node.Key(l.ctx, "everything", "code", "docs"); err != nil {
		l.t.Fatal(err)
	}
}

var exposure = regexp.MustCompile(`Overall exposure level for cloister.service: ([0-9.]+)`)

// hardened asks systemd what it thinks of the running unit.
func (l *life) hardened() {
	l.t.Helper()
	out := l.run("systemd-analyze", "security", "--no-pager", operator.Unit)
	found := exposure.FindStringSubmatch(out)
	if found == nil {
		l.t.Fatalf("systemd-analyze says %q", out)
	}
	if score, err := strconv.ParseFloat(found[1], 64); err != nil || score > exposed {
		l.t.Errorf("the unit's exposure is %s, wanted %v at most:\n%s", found[1], exposed, open(out))
	} else {
		l.t.Logf("the unit's exposure is %s of 10", found[1])
	}
}

// open are the lines of what systemd finds open.
func open(analysis string) string {
	var b strings.Builder
	for line := range strings.Lines(analysis) {
		if strings.Contains(line, "✗") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// answers imports the starter pack from the stick and asks everything.
func (l *life) answers() {
	l.t.Helper()
	l.spoiledPack()
	l.cli("", "model", "import", "/media/stick/starter.pack", "--accept-licence")
	if log := l.node.Journal(operator.Unit); !strings.Contains(log, "own_network=true") {
		l.t.Errorf("the model engine has no network namespace of its own under the unit:\n%s", log)
	}
	score, err := mainjob.Ask(l.ctx, l.node.Client(), l.node.URL(), l.token, l.world)
	if err != nil {
		l.t.Fatal(err)
	}
	score.Judge(l.t)
}

// spoiledPack imports a pack of which one byte changed on its way.
func (l *life) spoiledPack() {
	l.t.Helper()
	const spoiled = "/root/spoiled.pack"
	l.run("cp", "/media/stick/starter.pack", spoiled)
	changeByte(l.t, filepath.Join(l.node.Root, spoiled))
	if out, err := l.node.Run(l.ctx, "cloister", "model", "import", spoiled, "--accept-licence"); err == nil || !strings.Contains(out, "SHA-256") || strings.Count(strings.TrimSpace(out), "\n") > 0 {
		l.t.Errorf("a pack with one changed byte: %v, %q, wanted one line about its SHA-256", err, out)
	}
	l.run("rm", spoiled)
}

// asks puts one question whose answer is known.
func (l *life) asks() {
	l.t.Helper()
	at := slices.IndexFunc(l.world.Questions, func(q world.Question) bool { return q.Shape == "last-change" })
	q := l.world.Questions[at]
	a, err := l.node.Ask(l.ctx, l.token, q.Wordings[0])
	if err != nil {
		l.t.Fatal(err)
	}
	if err := a.Cites(q.Fact); err != nil {
		l.t.Errorf("%q: %v", q.Wordings[0], err)
	}
}

// edit changes the configuration and shows that the change is in force.
func (l *life) edit() {
	l.t.Helper()
	if err := l.node.Configure(`names = ["cloister.intern"]`); err != nil {
		l.t.Fatal(err)
	}
	l.run("systemctl", "restart", operator.Unit)
	l.inForce()
}

// inForce shows that the edited configuration is what the node runs with, and that
// it still knows what it knew.
func (l *life) inForce() {
	l.t.Helper()
	if err := l.node.Ready(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	if names := l.node.CertificateNames(l.ctx); !strings.Contains(names, "cloister.intern") {
		l.t.Errorf("the edited configuration is not in force: the certificate is for %s", names)
	}
	l.asks()
}

func (l *life) pid() string { return l.run("systemctl", "show", "-P", "MainPID", operator.Unit) }

func (l *life) upgrade() {
	l.t.Helper()
	before := l.pid()
	if _, err := l.node.Install(l.ctx, l.files["new"]); err != nil {
		l.t.Fatal(err)
	}
	if after := l.pid(); after == before || strings.TrimSpace(after) == "0" {
		l.t.Errorf("the upgrade did not restart the node: process %s, then %s", before, after)
	}
	l.inForce()
}

// olderIsRefused tries the older package over the newer.
func (l *life) olderIsRefused(word string, args ...string) {
	l.t.Helper()
	before := l.pid()
	out, err := l.node.Run(l.ctx, args...)
	if err == nil || !strings.Contains(out, word) {
		l.t.Errorf("an older package over a newer: %v, %q, wanted a sentence with %q", err, out, word)
	}
	if after := l.pid(); after != before {
		l.t.Errorf("the refused package touched the node: process %s, then %s", before, after)
	}
	l.inForce()
}

func (l *life) remove(args ...string) {
	l.t.Helper()
	if out := l.run(args...); !strings.Contains(out, "stays in /var/lib/cloister") {
		l.t.Errorf("the removal does not say what stays: %q", out)
	}
	if out := l.run("sh", "-c", "ls -l /usr/bin/cloister* /proc/*/exe 2>/dev/null | grep bin/cloister; true"); out != "" {
		l.t.Errorf("the program is still there: %q", out)
	}
}

// reinstall installs the newer package again and finds everything in its place.
func (l *life) reinstall() {
	l.t.Helper()
	if _, err := l.node.Install(l.ctx, l.files["new"]); err != nil {
		l.t.Fatal(err)
	}
	if err := l.node.Start(l.ctx); err != nil {
		l.t.Fatal(err)
	}
	l.inForce()
}
