package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// giveToOwner gives what root wrote into a data folder to the folder's owner, so
// that a service which runs as that user opens it: the packages make the folder
// for a user of its own, and an operator types as root. A file with a second name
// is left alone, since it may be somebody else's.
func giveToOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	var owner syscall.Stat_t
	if err := syscall.Stat(dir, &owner); err != nil || owner.Uid == 0 {
		return nil // there is no folder, or it is root's
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var s syscall.Stat_t
		if err := syscall.Lstat(path, &s); err != nil || s.Uid != 0 || (!d.IsDir() && s.Nlink > 1) {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		return fmt.Errorf("the files in %s are there, but could not be given to the folder's owner, as whom the node runs: %w", dir, err)
	}
	return nil
}
