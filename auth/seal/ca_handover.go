package seal

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"
)

// bundle is what a node hands to one that joins: every secret of the cluster, so
// that each node can renew its certificate and sign when the others are down.
type bundle struct {
	Version int               `cbor:"1,keyasint"`
	Root    []byte            `cbor:"2,keyasint"`
	Files   map[string][]byte `cbor:"3,keyasint"` // sealed under the root key, but for the CA's certificate
}

const (
	bundleVersion   = 1
	maxBundledBytes = 64 << 10
)

// shared names the files that all nodes of a cluster have alike.
func shared() []string { return []string{logFile, caFile, caCert} }

// Handover packs what a node that joins the cluster needs. It is as secret as the
// root key, which is in it.
func (k *Keys) Handover() ([]byte, error) {
	if _, err := k.CA(); err != nil { // makes it when nobody needed it yet
		return nil, err
	}
	b := bundle{Version: bundleVersion, Root: k.root, Files: map[string][]byte{}}
	for _, name := range shared() {
		content, err := os.ReadFile(filepath.Join(k.dir, name))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSeal, err)
		}
		b.Files[name] = content
	}
	return cbor.Marshal(b)
}

// Receive makes a seal in dir of what Handover packed. A folder that has a seal
// already is refused.
func Receive(dir string, packed []byte) error {
	var b bundle
	if err := cbor.Unmarshal(packed, &b); err != nil || b.Version != bundleVersion || len(b.Root) != 32 || len(packed) > maxBundledBytes {
		return fmt.Errorf("%w: what the other node sent is not its keys", ErrSeal)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if _, err := os.Lstat(filepath.Join(dir, rootFile)); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s holds the keys of a cluster already: choose an empty data folder", ErrSeal, dir)
	}
	for _, name := range shared() {
		mode := fs.FileMode(0o600)
		if name == caCert {
			mode = 0o644
		}
		if err := create(dir, name, b.Files[name], mode); err != nil {
			return err
		}
	}
	// The root key comes last: without it the folder is no seal yet.
	text := rootPrefix + base64.StdEncoding.EncodeToString(b.Root) + "\n"
	if err := create(dir, rootFile, []byte(text), 0o600); err != nil {
		return err
	}
	k, err := Open(dir)
	if err != nil {
		return err
	}
	_, err = k.CA()
	return err
}
