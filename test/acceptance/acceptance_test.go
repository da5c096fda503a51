package acceptance

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/test/machine"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

// withdrawn is how soon a group that was taken from somebody counts.
const withdrawn = 10 * time.Second

// TestTheFirstWeek is the whole use, from the stick to the auditor's laptop.
func TestTheFirstWeek(t *testing.T) {
	for _, why := range []string{machine.Reason(), directorytest.SambaReason()} {
		if why != "" {
			t.Skip(why)
		}
	}
	o := settle(t)
	began := time.Now()
	for _, step := range []struct {
		name string
		do   func()
	}{
		{"install and form the cluster", o.install},
		{"join the directory", o.directory},
		{"connect the sources", o.sources},
		{"ask, each their own", o.ask},
		{"go on with a conversation", o.talk},
		{"tell something", o.tell},
		{"lose a machine", o.lose},
		{"be told it, and have it forgotten", o.recall},
		{"take a group away", o.withdraw},
		{"take evidence away", o.evidence},
		{"nothing left", o.nothingLeft},
	} {
		step.do()
		t.Logf("%6.1fs %s", time.Since(began).Seconds(), step.name)
	}
}

// ask has both people ask both questions at every node: each gets the facts of
// what their groups may read, and no byte of the rest.
func (o *town) ask() {
	o.Helper()
	a, b := o.login(o.nodes[0], personA), o.login(o.nodes[1], personB)
	for _, n := range o.nodes {
		o.gets(n, personA, a, o.code)
		o.gets(n, personB, b, o.docs)
		o.lacks(n, personA, a, o.docs, "docs")
		o.lacks(n, personB, b, o.code, "code")
	}
}

// gets waits until the node has read as far, and fails where the fact is not cited.
func (o *town) gets(n *operator.Node, who, token string, q world.Question) {
	o.Helper()
	if err := n.Until(o.ctx, time.Minute, who+" is answered", func() error {
		a, err := n.Ask(o.ctx, token, q.Wordings[0])
		if err != nil {
			return err
		}
		return a.Cites(q.Fact)
	}); err != nil {
		o.Fatal(err)
	}
}

// lacks fails where anything of the source shows.
func (o *town) lacks(n *operator.Node, who, token string, q world.Question, source string) {
	o.Helper()
	a, err := n.Ask(o.ctx, token, q.Wordings[0])
	if err != nil {
		o.Fatalf("%s asks on %s: %v", who, n.Name, err)
	}
	if strings.Contains(strings.ToLower(a.Answer), strings.ToLower(q.Fact)) {
		o.Errorf("%s learns on %s what they may not read: %q", who, n.Name, a.Answer)
	}
	for _, c := range a.Citations {
		if c.Source == source {
			o.Errorf("%s gets a citation of %s on %s: %+v", who, source, n.Name, c)
		}
	}
}

// lose cuts a machine off while it answers A; another answers the same, and the
// lost one comes back by itself.
func (o *town) lose() {
	o.Helper()
	victim := o.nodes[2]
	token := o.login(victim, personA)
	a, waited, err := o.nodes.CutWhileItAnswers(o.ctx, victim, token, o.code.Wordings[0])
	if err == nil {
		err = a.Cites(o.code.Fact)
	}
	if err != nil {
		o.Fatalf("%s lost its power while it answered: %v", victim.Name, err)
	}
	o.Logf("%s lost its power while it answered; another answered %v later", victim.Name, waited.Round(time.Millisecond))
	if err := errors.Join(victim.Boot(o.ctx), victim.Ready(o.ctx), o.first.AllVote(o.ctx, len(o.nodes))); err != nil {
		o.Fatal(err)
	}
	o.gets(victim, personA, token, o.code)
}

// withdraw takes A out of the group, and waits until A's session, which goes on,
// gets nothing more of the repository at any node. B is not touched.
func (o *town) withdraw() {
	o.Helper()
	a, b := o.login(o.first, personA), o.login(o.first, personB)
	for _, n := range o.nodes {
		o.gets(n, personA, a, o.code)
	}
	o.samba("group", "removemembers", "inner", personA)
	began := time.Now()
	for _, n := range o.nodes {
		if err := n.Until(o.ctx, withdrawn, personA+" gets nothing more", func() error { return o.nothing(n, a) }); err != nil {
			o.Error(err)
		}
	}
	o.Logf("a group that was taken away counts on every node after %v", time.Since(began).Round(time.Millisecond))
	for _, n := range o.nodes {
		o.gets(n, personB, b, o.docs)
	}
}

// nothing says what somebody still gets of the repository.
func (o *town) nothing(n *operator.Node, token string) error {
	a, err := n.Ask(o.ctx, token, o.code.Wordings[0])
	var refused *operator.Refused
	if errors.As(err, &refused) && (refused.Status == http.StatusForbidden || refused.Status == http.StatusUnauthorized) {
		return nil
	}
	if err != nil {
		return err
	}
	if a.Cites(o.code.Fact) == nil {
		return errors.New("the fact is still cited")
	}
	return nil
}

// evidence has the auditor export on a node, and verify on a laptop that has the
// verifier of the stick and nothing else of the product.
func (o *town) evidence() {
	o.Helper()
	n := o.nodes[1]
	o.shell(n, auditor)
	if _, err := n.Run(o.ctx, "env", "HOME=/tmp/"+auditor, "cloister", "audit", "export", "--out", "/var/evidence.bundle"); err != nil {
		o.Fatal(err)
	}
	if out, err := n.Run(o.ctx, "env", "HOME=/tmp/"+auditor, "cloister", "ask", o.code.Wordings[0]); err == nil || strings.Contains(out, o.code.Fact) {
		o.Errorf("the auditor is answered: %q", out)
	}
	laptop := o.lan.New(o, "laptop", filepath.Join(o.stick(), "verifiers")+":/media/verifiers")
	if err := laptop.Boot(o.ctx); err != nil {
		o.Fatal(err)
	}
	bundle, err := os.ReadFile(filepath.Join(n.Root, "var/evidence.bundle"))
	if err != nil {
		o.Fatal(err)
	}
	verify := func(bundle []byte, key string) (string, error) {
		if err := laptop.Write("/root/evidence.bundle", string(bundle)); err != nil {
			return "", err
		}
		return laptop.Run(o.ctx, "/media/verifiers/cloister-verify-linux-amd64", "--log-key", key, "/root/evidence.bundle")
	}
	if out, err := verify(bundle, o.first.LogKey); err != nil {
		o.Errorf("what the auditor took away does not verify: %v", err)
	} else {
		o.Logf("%s", strings.TrimSpace(out))
	}
	changed := []byte(strings.Replace(string(bundle), `"action":"ask"`, `"action":"Ask"`, 1))
	if out, err := verify(changed, o.first.LogKey); err == nil || !strings.Contains(out, "NOT VERIFIED") {
		o.Errorf("a changed record is verified: %q", out)
	}
	if out, err := verify(bundle, "SHA256:"+strings.Repeat("A", 43)); err == nil || !strings.Contains(out, "NOT VERIFIED") {
		o.Errorf("another installation's key is taken: %q", out)
	}
	for _, content := range []string{o.code.Fact, o.docs.Fact, word, directorytest.Password} {
		if strings.Contains(string(bundle), content) {
			o.Errorf("what people read or typed stands in the evidence: %q", content)
		}
	}
}

// nothingLeft looks at the sink, which then sees a dial that leads out.
func (o *town) nothingLeft() {
	o.Helper()
	if frames := o.lan.Frames(); len(frames) > 0 {
		o.Errorf("%d packets left the network, the first of them: %s", len(frames), frames[0])
	}
	before := len(o.lan.Frames())
	for _, n := range o.nodes {
		_, _ = n.Run(o.ctx, "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/192.0.2.9/443")
		after := len(o.lan.Frames())
		if after == before {
			o.Errorf("a dial that leads out of %s was not seen, so seeing nothing proves nothing", n.Name)
		}
		before = after
	}
}
