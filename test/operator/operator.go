// Package operator does on machines what an operator types there: install a
// package, edit the configuration, start, set up, have other nodes join.
//
// It promises to use nothing but the package, the shell and what the pages and
// programs reach over the network; what it knows of the data folder is what the
// node tells. It imports nothing of Cloister but test/machine.
package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cloister-os/cloister/test/machine"
)

// Where the package puts things.
const (
	Data          = "/var/lib/cloister"
	Configuration = "/etc/cloister/cloister.toml"
	Unit          = "cloister.service"
)

// Password is the first administrator's, who is called ada.
const Password = "correct horse battery staple"

// readyLimit bounds how long a node takes until it can serve; on a machine that is
// busy with other tests that is long.
const readyLimit = 2 * time.Minute

// Node is Cloister on one machine.
type Node struct {
	*machine.Machine
	LogKey string // known after Setup
	client *http.Client
}

// On is Cloister on a machine.
func On(m *machine.Machine) *Node { return &Node{Machine: m} }

// URL is where people reach the node.
func (n *Node) URL() string { return "https://" + n.Addr + ":8443" }

// Peer is where the other nodes reach it.
func (n *Node) Peer() string { return n.Addr + ":8444" }

// Install installs or upgrades with the machine's own tool for the kind of package,
// from a path on the machine. An RPM's requirements are those of another system.
func (n *Node) Install(ctx context.Context, file string) (string, error) {
	if strings.HasSuffix(file, ".rpm") {
		return n.Run(ctx, "rpm", "-U", "--nodeps", file)
	}
	return n.Run(ctx, "dpkg", "-i", "--force-confold", file)
}

// CLI runs cloister in root's shell on the machine and returns what it prints.
func (n *Node) CLI(ctx context.Context, stdin string, args ...string) (string, error) {
	return n.Output(ctx, stdin, append([]string{"cloister"}, args...)...)
}

// Configure appends to the node's configuration.
func (n *Node) Configure(lines ...string) error {
	f, err := os.OpenFile(filepath.Join(n.Root, Configuration), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strings.Join(lines, "\n") + "\n")
	return errors.Join(err, f.Close())
}

// Start enables the node and returns when it can serve.
func (n *Node) Start(ctx context.Context) error {
	if _, err := n.Run(ctx, "systemctl", "enable", "--now", Unit); err != nil {
		return err
	}
	return n.Ready(ctx)
}

// Ready waits until the node says that it can serve.
func (n *Node) Ready(ctx context.Context) error {
	return n.Until(ctx, readyLimit, "the node can serve", func() error {
		if n.client == nil {
			if err := n.trust(); err != nil {
				return err
			}
		}
		resp, err := n.client.Get(n.URL() + "/readyz")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// trust makes the client that trusts the authority which the first node told of.
func (n *Node) trust() error {
	s, err := n.offered()
	if err != nil {
		return err
	}
	n.LogKey = s.LogKey
	pem, err := os.ReadFile(filepath.Join(n.Root, s.CA))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s is not a certificate", s.CA)
	}
	n.client = &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	return nil
}

type offer struct {
	CA     string `json:"ca"`
	LogKey string `json:"log_key"`
}

func (n *Node) offered() (offer, error) {
	var s offer
	b, err := os.ReadFile(filepath.Join(n.Root, Data, "setup.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// Client trusts the cluster's authority. It is known once the first node is ready.
func (n *Node) Client() *http.Client { return n.client }

// Setup makes the first administrator.
func (n *Node) Setup(ctx context.Context) error {
	_, err := n.CLI(ctx, Password+"\n", "setup", "--from", Data+"/setup.json", "--user", "ada", "--password-stdin")
	return err
}

// Join has the node join the cluster of another, by an invitation, and starts it.
func (n *Node) Join(ctx context.Context, first *Node) error {
	out, err := first.CLI(ctx, "", "node", "invite", "--json")
	if err != nil {
		return err
	}
	var i struct{ Token string }
	if err := json.Unmarshal([]byte(out), &i); err != nil {
		return err
	}
	if _, err := n.CLI(ctx, "", "node", "join", i.Token, "--data", Data, "--node", n.Name, "--cluster-peer", n.Peer()); err != nil {
		return err
	}
	n.client, n.LogKey = first.client, first.LogKey
	return n.Start(ctx)
}

// Member is a node as the cluster sees it.
type Member struct {
	Name, Role, Note string
	Healthy          bool
}

// Votes reports whether the node counts and is well.
func (m Member) Votes() bool { return m.Healthy && (m.Role == "leader" || m.Role == "voter") }

// Members lists the nodes, as this one knows them.
func (n *Node) Members(ctx context.Context) ([]Member, error) {
	out, err := n.CLI(ctx, "", "node", "list", "--json")
	if err != nil {
		return nil, err
	}
	var list []Member
	return list, json.Unmarshal([]byte(out), &list)
}

// AllVote waits until so many nodes vote and are well.
func (n *Node) AllVote(ctx context.Context, count int) error {
	return n.Until(ctx, 3*time.Minute, fmt.Sprint(count, " nodes vote and are well"), func() error {
		list, err := n.Members(ctx)
		if err != nil {
			return err
		}
		well := 0
		for _, m := range list {
			if m.Votes() {
				well++
			}
		}
		if well != count {
			return fmt.Errorf("%+v", list)
		}
		return nil
	})
}

// Key makes an API key that may ask of, and read, the sources.
func (n *Node) Key(ctx context.Context, name string, sources ...string) (string, error) {
	args := []string{"key", "create", name, "--scope", "ask", "--json"}
	for _, s := range sources {
		args = append(args, "--source", s)
	}
	out, err := n.CLI(ctx, "", args...)
	if err != nil {
		return "", err
	}
	var k struct{ Secret string }
	if err := json.Unmarshal([]byte(out), &k); err != nil || k.Secret == "" {
		return "", fmt.Errorf("key create --json printed no secret: %v", err)
	}
	return k.Secret, nil
}

// Answer is what came of a question.
type Answer struct {
	Outcome      string
	Answer       string
	Conversation string // name it in the next question to go on
	Citations    []struct{ Source, Record, Text string }
	Memories     []struct{ Words string }
}

// Ask asks the node over the network.
func (n *Node) Ask(ctx context.Context, token, question string) (Answer, error) {
	return n.GoOn(ctx, token, "", question)
}

// GoOn asks in a conversation; "" begins another.
func (n *Node) GoOn(ctx context.Context, token, conversation, question string) (Answer, error) {
	var a Answer
	status, err := n.post(ctx, token, "/api/v1/ask", map[string]string{"question": question, "conversation": conversation}, &a)
	if err == nil && status != http.StatusOK {
		err = &Refused{status}
	}
	return a, err
}

// Refused is an answer other than 200.
type Refused struct{ Status int }

func (r *Refused) Error() string { return fmt.Sprintf("status %d", r.Status) }

// post sends JSON and reads JSON where the status is a good one.
func (n *Node) post(ctx context.Context, token, path string, in, out any) (status int, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.URL()+path, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err == nil && resp.StatusCode < 300 {
		err = json.Unmarshal(b, out)
	}
	return resp.StatusCode, err
}

// Until tries until it succeeds, and says what the node last logged if it never does.
func (n *Node) Until(ctx context.Context, limit time.Duration, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %v it is not so that on %s %s: %w\n%s", limit, n.Name, what, err, n.Journal(Unit))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// CertificateNames are the names that the node's certificate is for, with commas
// between, "" where it shows none.
func (n *Node) CertificateNames(ctx context.Context) string {
	d := tls.Dialer{Config: n.client.Transport.(*http.Transport).TLSClientConfig.Clone()}
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(n.URL(), "https://"))
	if err != nil {
		return ""
	}
	defer c.Close()
	return strings.Join(c.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames, ",")
}

// Cites says why no citation of the answer holds the fact.
func (a Answer) Cites(fact string) error {
	for _, c := range a.Citations {
		if strings.Contains(strings.ToLower(c.Text), strings.ToLower(fact)) {
			return nil
		}
	}
	return fmt.Errorf("%s %q cites %+v, wanted %q", a.Outcome, a.Answer, a.Citations, fact)
}

// Login signs a person in over the network and returns the session's token.
func (n *Node) Login(ctx context.Context, user, password string) (string, error) {
	var s struct{ Token string }
	status, err := n.post(ctx, "", "/api/v1/login", map[string]string{"user": user, "password": password}, &s)
	if err == nil && (status != http.StatusOK && status != http.StatusCreated || s.Token == "") {
		err = fmt.Errorf("%s is not signed in: status %d", user, status)
	}
	return s.Token, err
}
