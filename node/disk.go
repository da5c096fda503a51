package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// disk is the node's folder, held by this process alone.
type disk struct {
	dir  string
	lock *os.File
}

// The parts of the folder. What lies in them belongs to the room of that name.
func (d *disk) seal() string    { return filepath.Join(d.dir, "seal") }
func (d *disk) raft() string    { return filepath.Join(d.dir, "raft") }
func (d *disk) tls() string     { return filepath.Join(d.dir, "tls") }
func (d *disk) blobs() string   { return filepath.Join(d.dir, "blobs") }
func (d *disk) index() string   { return filepath.Join(d.dir, "index") }
func (d *disk) engine() string  { return filepath.Join(d.dir, "engine") }
func (d *disk) tmp() string     { return filepath.Join(d.dir, "tmp") }
func (d *disk) uploads() string { return filepath.Join(d.dir, "tmp", "uploads") }
func (d *disk) setup() string   { return filepath.Join(d.dir, "setup.json") }
func (d *disk) web() string     { return filepath.Join(d.dir, "tls", "organisation.sealed") }
func (d *disk) ca() string      { return filepath.Join(d.dir, "tls", "ca.pem") }

// openDisk makes the folder if it is not there, and locks it. It refuses a
// folder that holds something else.
func openDisk(dir string) (*disk, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be made: %w", dir, reason(err))
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be read: %w", dir, reason(err))
	}
	ours := len(list) == 0
	for _, e := range list {
		ours = ours || e.Name() == "lock" || e.Name() == "seal"
	}
	if !ours {
		return nil, fmt.Errorf("the folder %s holds something else: choose an empty or a new one with --data", dir)
	}
	d := &disk{dir: dir}
	if d.lock, err = lockFolder(dir); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(filepath.Join(dir, restoring)); err == nil {
		return nil, errors.Join(fmt.Errorf("a restore into the data folder %s did not come to its end: run it again", dir), d.Close())
	}
	for _, sub := range []string{d.tls(), d.tmp(), d.index()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, errors.Join(fmt.Errorf("the data folder %s cannot be written: %w", dir, reason(err)), d.Close())
		}
	}
	return d, nil
}

// lockFolder takes a data folder for this process alone.
func lockFolder(dir string) (*os.File, error) {
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder %s cannot be written: %w", dir, reason(err))
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("another process uses the data folder %s: stop it, or choose another folder with --data", dir)
		}
		return nil, fmt.Errorf("the data folder %s cannot be locked: %w", dir, err)
	}
	return lock, nil
}

// sealed refuses a folder whose store is there and whose keys are not: new keys
// would open nothing of it, and nobody would trust what they sign.
func (d *disk) sealed() error {
	stored, err := d.stored()
	if err != nil || !stored {
		return err
	}
	keys, err := filled(d.seal())
	if err == nil && !keys {
		err = fmt.Errorf("the folder %s with the keys of this data is missing or empty: bring it back from a backup, nothing can be read or trusted without it", d.seal())
	}
	return err
}

// stored reports whether the folder holds a store, however much of it.
func (d *disk) stored() (bool, error) {
	for _, part := range []string{filepath.Join(d.dir, "raft"), d.blobs()} {
		if there, err := filled(part); there || err != nil {
			return there, err
		}
	}
	return false, nil
}

// filled reports whether a folder is there and holds something.
func filled(dir string) (bool, error) {
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("the folder %s cannot be read: %w", dir, reason(err))
	}
	return len(list) > 0, nil
}

// Close lets the folder go.
func (d *disk) Close() error { return d.lock.Close() }

// writeFile writes a small file that is whole or absent.
func writeFile(path string, content []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// reason is an error of the file system without the path, which the sentence
// around it names.
func reason(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return errors.New("the disk is full: free some space and try again")
	}
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
