package seal

import (
	"crypto/ed25519"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// BackupFiles are the files that a restored cluster needs beside its root key.
// They are sealed under it, but for the CA's certificate, which is not secret, and
// the file of shares, from which the holders' shares make the root key.
func (k *Keys) BackupFiles() (map[string][]byte, error) {
	if _, err := k.CA(); err != nil { // makes it when nobody needed it yet
		return nil, err
	}
	names := shared()
	if _, _, split := k.Shared(); split {
		names = append(names, sharesFile)
	}
	files := map[string][]byte{}
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(k.dir, name))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrSeal, err)
		}
		files[name] = b
	}
	return files, nil
}

// Rebuild makes a seal in dir of the files of a backup and the root key that they
// were sealed under (the content of root.key). Another root key opens none of
// them and is refused. A folder that has a seal already is refused too.
func Rebuild(dir string, root []byte, files map[string][]byte) (*Keys, error) {
	if err := putFiles(dir, files); err != nil {
		return nil, err
	}
	if err := create(dir, rootFile, slices.Clone(root), 0o600); err != nil {
		return nil, err
	}
	k, err := Open(dir)
	if err != nil {
		return nil, fmt.Errorf("the root key given does not open this backup: %w", err)
	}
	_, err = k.CA()
	return k, err
}

// putFiles puts a backup's sealed files into a folder that has no seal.
func putFiles(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	for _, name := range []string{rootFile, sharesFile} {
		if exists(dir, name) {
			return fmt.Errorf("%w: %s holds the keys of a cluster already: choose an empty data folder", ErrSeal, dir)
		}
	}
	for _, name := range shared() {
		content, ok := files[name]
		if !ok {
			return fmt.Errorf("%w: the backup lacks %s", ErrSeal, name)
		}
		mode := fs.FileMode(0o600)
		if name == caCert {
			mode = 0o644
		}
		if err := create(dir, name, content, mode); err != nil {
			return err
		}
	}
	return nil
}

// Cosigner is the key with which a node cosigns checkpoints of the audit log.
func (k *Keys) Cosigner(node string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(k.derive("cosigner/v1", []byte(node)))
}
