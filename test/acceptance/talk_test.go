package acceptance

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/test/operator"
	"github.com/cloister-os/cloister/test/world"
)

// What A tells, and what is asked about it. The word stands nowhere else.
const (
	told  = "Please remember that the staging host is hv-7391."
	about = "which machine is staging?"
	word  = "hv-7391"
)

// talk has A go on with a conversation at another node, where B cannot.
func (o *town) talk() {
	o.Helper()
	opening, next := o.dialogue()
	a, b := o.login(o.nodes[0], personA), o.login(o.nodes[1], personB)
	var conversation string
	if err := o.first.Until(o.ctx, time.Minute, "A goes on with a conversation", func() (err error) { // all nodes have read as far
		conversation, err = o.goOn(a, opening, next)
		return err
	}); err != nil {
		o.Fatal(err)
	}
	theirs, none := o.refusal(b, conversation), o.refusal(b, conversation[:len(conversation)-1]+"x")
	if theirs != none || theirs != http.StatusForbidden && theirs != http.StatusNotFound {
		o.Errorf("B goes on with A's conversation: status %d, and %d with one that nobody has", theirs, none)
	}
}

// goOn begins a conversation at a node and goes on with it at another.
func (o *town) goOn(token string, opening, next world.Turn) (conversation string, err error) {
	begun, err := o.nodes[0].Ask(o.ctx, token, opening.Text)
	if err == nil {
		err = holds(begun, opening)
	}
	if err != nil {
		return "", fmt.Errorf("%q: %w", opening.Text, err)
	}
	on, err := o.nodes[1].GoOn(o.ctx, token, begun.Conversation, "and who changed it before that?")
	if err == nil {
		err = holds(on, next)
	}
	if err == nil && on.Conversation != begun.Conversation {
		err = fmt.Errorf("it became the conversation %q", on.Conversation)
	}
	if err != nil {
		return "", fmt.Errorf("%q and then, on another node, who before that, in %q: %w", opening.Text, begun.Conversation, err)
	}
	return begun.Conversation, nil
}

// refusal is how B is refused to go on with a conversation, 0 where they are not.
func (o *town) refusal(token, conversation string) int {
	o.Helper()
	_, err := o.nodes[1].GoOn(o.ctx, token, conversation, "and who changed it before that?")
	var refused *operator.Refused
	if !errors.As(err, &refused) {
		return 0
	}
	return refused.Status
}

// dialogue is a question about a file's last change, and what the one before was.
func (o *town) dialogue() (opening, next world.Turn) {
	o.Helper()
	for _, d := range o.world.Dialogues {
		if d.Kind == "before" && strings.HasPrefix(d.Turns[0].Text, "Who last changed ") {
			return d.Turns[0], d.Turns[1]
		}
	}
	o.Fatal("the world has no conversation about a file's changes")
	return
}

func holds(a operator.Answer, turn world.Turn) error {
	for _, want := range turn.Holds {
		if !strings.Contains(a.Answer, want) {
			return fmt.Errorf("%s %q does not say %q", a.Outcome, a.Answer, want)
		}
	}
	return nil
}

// tell has A state a fact.
func (o *town) tell() {
	o.Helper()
	a, err := o.nodes[0].Ask(o.ctx, o.login(o.nodes[0], personA), told)
	if err != nil || a.Outcome != "kept" {
		o.Fatalf("A tells something: %+v %v", a, err)
	}
}

// recall has A get the fact back at every node, in other conversations; B asks the
// same and gets nothing of it. Then A has it forgotten.
func (o *town) recall() {
	o.Helper()
	a, b := o.login(o.nodes[1], personA), o.login(o.nodes[0], personB)
	for _, n := range o.nodes {
		if err := n.Until(o.ctx, time.Minute, "A is told what A told", func() error { // the lost one loads its model again
			got, err := n.Ask(o.ctx, a, about)
			if err == nil && !strings.Contains(got.Answer, word) {
				err = fmt.Errorf("%+v", got)
			}
			return err
		}); err != nil {
			o.Error(err)
		}
		if got, err := n.Ask(o.ctx, b, about); err != nil || strings.Contains(fmt.Sprintf("%+v", got), word) || len(got.Memories) > 0 {
			o.Errorf("B is told on %s what A told: %+v %v", n.Name, got, err)
		}
	}
	n := o.nodes[2]
	o.shell(n, personA)
	if _, err := n.Run(o.ctx, "env", "HOME=/tmp/"+personA, "cloister", "memory", "forget", "--all", "--yes"); err != nil {
		o.Fatal(err)
	}
	for _, n := range o.nodes {
		if err := n.Until(o.ctx, 10*time.Second, "what A had forgotten is forgotten", func() error {
			got, err := n.Ask(o.ctx, a, about)
			if err == nil && strings.Contains(fmt.Sprintf("%+v", got), word) {
				err = fmt.Errorf("%+v", got)
			}
			return err
		}); err != nil {
			o.Error(err)
		}
	}
}

// shell signs a person in, in a shell of their own on a node.
func (o *town) shell(n *operator.Node, person string) {
	o.Helper()
	if _, err := n.Output(o.ctx, directorytest.Password+"\n", "env", "HOME=/tmp/"+person, "cloister", "login",
		"--url", n.URL(), "--ca", operator.Data+"/tls/ca.pem", "--user", person, "--password-stdin"); err != nil {
		o.Fatal(err)
	}
}
