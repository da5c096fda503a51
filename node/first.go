package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Setup is what whoever completes the first start needs. It is in setup.json,
// mode 0600, until setup is complete.
type Setup struct {
	URL         string `json:"url"`
	CA          string `json:"ca"` // path of the CA's certificate
	Fingerprint string `json:"fingerprint"`
	LogKey      string `json:"log_key"`
	Code        string `json:"code"`
}

// offerSetup makes a setup code and writes setup.json while no administrator
// exists. It returns nil when setup is complete.
func (n *Node) offerSetup(ctx context.Context) (*Setup, error) {
	needed, err := n.sessions.SetupNeeded(ctx)
	if err != nil {
		return nil, fmt.Errorf("look whether setup is complete: %w", err)
	}
	if !needed {
		return nil, n.dropSetup()
	}
	code, err := n.sessions.NewSetupCode(ctx)
	if err != nil {
		return nil, fmt.Errorf("make a setup code: %w", err)
	}
	s := &Setup{URL: n.URL(), CA: n.disk.ca(), Fingerprint: n.ca.Fingerprint(), LogKey: n.audit.Fingerprint(), Code: code}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := writeFile(n.disk.setup(), append(b, '\n'), 0o600); err != nil {
		return nil, fmt.Errorf("write %s: %w", n.disk.setup(), reason(err))
	}
	return s, nil
}

func (n *Node) dropSetup() error {
	if err := os.Remove(n.disk.setup()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", n.disk.setup(), reason(err))
	}
	return nil
}

// Greeting is what whoever started the node needs to know.
type Greeting struct {
	URL         string `json:"url"`
	CA          string `json:"ca"`
	Fingerprint string `json:"fingerprint"`
	LogKey      string `json:"log_key"`
	Setup       string `json:"setup,omitempty"` // path of setup.json while setup is not complete
	code        string
}

// Greeting tells where the node is and whom to trust. As JSON it leaves the
// setup code out: that is in setup.json.
func (n *Node) Greeting() Greeting {
	g := Greeting{URL: n.URL(), CA: n.disk.ca(), Fingerprint: n.ca.Fingerprint(), LogKey: n.audit.Fingerprint()}
	if n.setup != nil {
		g.Setup, g.code = n.disk.setup(), n.setup.Code
	}
	return g
}

// Greet writes the greeting for people.
func (n *Node) Greet(w io.Writer) error {
	g := n.Greeting()
	text := fmt.Sprintf("Cloister is ready at %s\n", g.URL)
	text += fmt.Sprintf("  certificate authority  %s\n", g.Fingerprint)
	text += fmt.Sprintf("  audit log key          %s\n", g.LogKey)
	if g.Setup != "" {
		text += fmt.Sprintf("  setup code             %s\n", g.code)
		text += "Note the audit log key down: an auditor trusts nothing else.\n"
		text += fmt.Sprintf("Complete the setup in a browser, or with: cloister setup --from %s --user NAME\n", g.Setup)
	}
	_, err := io.WriteString(w, text)
	return err
}
