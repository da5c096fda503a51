package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// secretWord is what is told before the backup and forgotten after it.
const secretWord = "mandragora"

// isTold: what is said at one node is used at the others. Two facts are told; one
// of them is kept throughout.
func (d *centre) isTold() {
	d.T.Helper()
	d.SignIn(d.Nodes[1])
	d.Run("", "ask", "Remember that the drawbridge word is "+secretWord+".")
	d.Run("", "memory", "add", "the well is in the north court")
	for _, n := range d.Nodes {
		d.SignIn(n)
		d.Soon(n.Name+" knows what was told", func() error {
			out, err := d.Try("", "ask", "--json", "what is the drawbridge word?")
			if err == nil && (!strings.Contains(out, `"outcome":"memory"`) || !strings.Contains(out, secretWord)) {
				err = errors.New(out)
			}
			return err
		})
	}
	d.SignIn(d.Nodes[0])
}

// isForgotten forgets what the backup holds. An operator takes the list of what was
// forgotten to where the backup lies.
func (d *centre) isForgotten(s saved) {
	d.T.Helper()
	var all []struct{ ID, Words string }
	d.Read(&all, "memory", "list", "--json")
	for _, m := range all {
		if strings.Contains(m.Words, secretWord) {
			d.Run("", "memory", "forget", m.ID)
		}
	}
	d.staysForgotten()
	var list []byte
	d.Soon("the list of what was forgotten lies beside the backups", func() (err error) {
		list, err = os.ReadFile(filepath.Join(d.Nodes[0].Data, "backups", "forgotten"))
		return err
	})
	if strings.Contains(string(list), secretWord) {
		d.T.Errorf("the list of what was forgotten holds it: %s", list)
	}
	if err := os.WriteFile(filepath.Join(s.folder, "forgotten"), list, 0o600); err != nil {
		d.T.Fatal(err)
	}
}

// staysForgotten: no node tells what was forgotten, and all tell what was not.
func (d *centre) staysForgotten() {
	d.T.Helper()
	for _, n := range d.Nodes {
		d.SignIn(n)
		d.Soon(n.Name+" knows what is forgotten", func() error {
			list, err := d.Try("", "memory", "list", "--all", "--json")
			if err != nil {
				return err
			}
			asked, err := d.Try("", "ask", "--json", "what is the drawbridge word?")
			if err != nil {
				return err
			}
			if !strings.Contains(list, "north court") || strings.Contains(list+asked, secretWord) {
				return fmt.Errorf("it tells %s and answers %s", list, asked)
			}
			return nil
		})
	}
	d.SignIn(d.Nodes[0])
}
