package acceptance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/medium"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

func TestMain(m *testing.M) {
	machine.Enter()
	os.Exit(m.Run())
}

// The domain controller's name on the machines, and who signs in. A is in outer
// through two other groups, B in others; the auditor is put into a group of their
// own.
const (
	controller = "dc1.cloister.test"
	personA    = "alice"
	personB    = "frank"
	auditor    = "eve"
)

// town is the organisation: its machines, its directory, its data.
type town struct {
	*testing.T
	ctx   context.Context
	lan   *machine.LAN
	nodes operator.Cluster
	first *operator.Node
	world *world.World
	code  world.Question // only who may read the repository gets its answer
	docs  world.Question // only who may read the documents gets its answer
}

// settle boots three machines with the stick and the data in them.
func settle(t *testing.T) *town {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 12*time.Minute)
	t.Cleanup(cancel)
	stick := medium.New(t)
	dir := filepath.Join(t.TempDir(), "world")
	w, err := world.New(dir, uint64(time.Now().UnixNano()))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", w.Seed)
	o := &town{T: t, ctx: ctx, lan: machine.NewLAN(t), world: w, code: question(t, w, "release", w.Documents), docs: question(t, w, "document", w.Repository)}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		m := o.lan.New(t, name, stick+":/media/stick", dir+":/srv/world")
		hosts := fmt.Sprintf("127.0.0.1 localhost\n%s %s\n%s %s\n", m.Addr, name, machine.Laptop, controller)
		if err := errors.Join(m.Write("/etc/hosts", hosts), m.Boot(ctx)); err != nil {
			t.Fatal(err)
		}
		o.nodes = append(o.nodes, operator.On(m))
	}
	o.first = o.nodes[0]
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range o.nodes {
				t.Logf("%s:\n%s", n.Name, n.Journal(operator.Unit))
			}
		}
	})
	return o
}

// question is one of the shape whose fact stands nowhere in the other source: whoever
// may read that one alone cannot come by it.
func question(t testing.TB, w *world.World, shape, other string) world.Question {
	t.Helper()
	for _, q := range w.Questions {
		if q.Shape == shape && !stands(t, q.Fact, other) {
			return q
		}
	}
	t.Fatalf("seed %d has no question of the shape %s whose fact stands in one source alone", w.Seed, shape)
	return world.Question{}
}

// stands reports whether a file below the folder holds the words.
func stands(t testing.TB, words, dir string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || found {
			return err
		}
		b, err := os.ReadFile(path)
		found = bytes.Contains(bytes.ToLower(b), []byte(strings.ToLower(words)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// cli types on the first node as the administrator.
func (o *town) cli(stdin string, args ...string) string {
	o.Helper()
	out, err := o.first.CLI(o.ctx, stdin, args...)
	if err != nil {
		o.Fatal(err)
	}
	return out
}

// install checks the stick as the README says, installs, and forms the cluster.
func (o *town) install() {
	o.Helper()
	if _, err := o.first.Run(o.ctx, "sh", "-c", "cd /media/stick && sha256sum --quiet -c SHA256SUMS"); err != nil {
		o.Fatal(err)
	}
	rpm := medium.Find(o, o.stick(), "*.rpm")
	if err := o.nodes.Install(o.ctx, "/media/stick/"+filepath.Base(rpm)); err != nil {
		o.Fatal(err)
	}
	if err := o.nodes.Form(o.ctx); err != nil {
		o.Fatal(err)
	}
	o.cli("", "model", "import", "/media/stick/starter.pack", "--accept-licence")
}

// stick is the medium as the first machine sees it.
func (o *town) stick() string { return o.first.Seen("/media/stick") }

// directory starts Samba where the machines reach it, joins it, and says which
// group gives which role.
func (o *town) directory() {
	o.Helper()
	s := directorytest.Samba(o.T, filepath.Join(medium.Build(o), "samba"))
	o.forward(machine.Laptop+":636", "127.0.0.1:636")
	o.samba("group", "add", "auditors")
	o.samba("group", "addmembers", "auditors", auditor)
	if err := o.first.Write("/root/directory.pem", string(s.CA)); err != nil {
		o.Fatal(err)
	}
	o.cli(s.BindPassword+"\n", "directory", "add", "corp", "--server", "ldaps://"+controller, "--ca", "/root/directory.pem",
		"--bind-dn", s.BindDN, "--base", s.Base, "--password-stdin")
	for group, role := range map[string]string{"outer": "user", "others": "user", "auditors": "auditor"} {
		o.cli("", "directory", "grant", "corp", group, role)
	}
}

// samba changes the directory as its own administrator does.
func (o *town) samba(args ...string) {
	o.Helper()
	cmd := exec.CommandContext(o.ctx, "samba-tool", append(args, "-s", "/mnt/dc/etc/smb.conf")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		o.Fatalf("samba-tool %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// forward carries connections: the domain controller listens on loopback alone.
func (o *town) forward(from, to string) {
	o.Helper()
	l, err := net.Listen("tcp", from)
	if err != nil {
		o.Fatal(err)
	}
	o.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				d, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer d.Close()
				go func() {
					_, _ = io.Copy(d, c)
					_ = d.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(c, d)
			}()
		}
	}()
}

// sources connects the repository for A's group and the documents for B's. How the
// reading goes is for these groups alone to see, so nobody waits for it here.
func (o *town) sources() {
	o.Helper()
	o.cli("", "source", "add", "git", "code", "--path", "/srv/world/repository", "--audience", "corp/"+o.group("outer"))
	o.cli("", "source", "add", "files", "docs", "--path", "/srv/world/documents", "--audience", "corp/"+o.group("others"))
}

func (o *town) group(name string) string {
	o.Helper()
	var list struct {
		Groups []struct{ ID, Name string }
	}
	if err := json.Unmarshal([]byte(o.cli("", "directory", "groups", "corp", name, "--json")), &list); err != nil {
		o.Fatal(err)
	}
	for _, g := range list.Groups {
		if g.Name == name {
			return g.ID
		}
	}
	o.Fatalf("the directory has no group %s: %+v", name, list)
	return ""
}

// login signs a person in at a node with the password that the test's directory has.
func (o *town) login(n *operator.Node, user string) string {
	o.Helper()
	token, err := n.Login(o.ctx, user, directorytest.Password)
	if err != nil {
		o.Fatal(err)
	}
	return token
}
