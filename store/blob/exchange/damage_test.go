package exchange_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cloister-os/cloister/store/blob"
)

// damage flips one bit of a blob on a disk.
func damage(t *testing.T, dir string, h blob.Hash) {
	t.Helper()
	path := filepath.Join(dir, h.String()[:2], h.String())
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 4
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
