package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloister-os/cloister/store"
)

// Place is what a data folder remembers of its cluster, so that a node knows who
// it is, and whom to ask, before its store is open. It holds no secret.
type Place struct {
	Cluster string            `json:"cluster"`
	Node    string            `json:"node"`
	Joined  int64             `json:"joined"`            // see seal.Identity
	Address string            `json:"address,omitempty"` // its own peer address; "" = the peer port is closed
	Service string            `json:"service,omitempty"` // the service's name, for certificates
	Founder bool              `json:"founder"`           // it founded the cluster, so it need not wait to be added
	Members map[string]string `json:"members,omitempty"` // the others' peer addresses, as last known
}

const placeFile = "cluster.json"

// ReadPlace reads what a data folder remembers; fs.ErrNotExist when it belongs to
// no cluster yet.
func ReadPlace(data string) (Place, error) {
	path := filepath.Join(data, placeFile)
	b, err := os.ReadFile(path)
	if err != nil {
		return Place{}, err
	}
	var p Place
	if err := json.Unmarshal(b, &p); err != nil || p.Cluster == "" || p.Node == "" {
		return Place{}, fmt.Errorf("%w: %s is damaged: bring it back from a backup", store.ErrInvalid, path)
	}
	return p, nil
}

// Write keeps it in a data folder: whole or as it was before.
func (p Place) Write(data string) (err error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(data, placeFile+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", placeFile, err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone after the rename
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Chmod(fs.FileMode(0o600)), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", placeFile, err)
	}
	if err := os.Rename(f.Name(), filepath.Join(data, placeFile)); err != nil {
		return fmt.Errorf("write %s: %w", placeFile, err)
	}
	d, err := os.Open(data)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
