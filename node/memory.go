package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cloister-os/cloister/agents/memory"
)

// forgotten is the file with what people had forgotten: in a node's folder, where no
// restore replaces it, and beside the backups.
const forgotten = "forgotten"

// openMemory opens what people told, and forgets again what a restore brought back
// before anybody is served.
func (n *Node) openMemory(ctx context.Context) error {
	ledger, err := memory.OpenLedger(filepath.Join(n.cfg.Data, forgotten), filepath.Join(n.backupDir(), forgotten))
	if err != nil {
		return err
	}
	n.memories, err = memory.New(memory.Config{Store: n.store, Door: n.guard, Sealer: n.keys, Ledger: ledger, Now: n.clock.Now, Logger: n.log})
	if err != nil {
		return err
	}
	again, err := n.memories.ForgetAgain(ctx, n.cfg.Node)
	if err != nil {
		return err
	}
	if again > 0 {
		n.log.Info("A restore brought back memories that had been forgotten: they are forgotten again.", "memories", again)
	}
	n.rooms.runs("what was forgotten", n.memories.Run)
	return nil
}

// backupDir is where this node's backups lie.
func (n *Node) backupDir() string { return or(n.cfg.Backup.To, filepath.Join(n.cfg.Data, "backups")) }

// keepForgotten takes over what was forgotten since a backup was made, as far as the
// folder of backups knows: the first start forgets it again.
func keepForgotten(in Bare) error {
	b, err := os.ReadFile(filepath.Join(filepath.Dir(filepath.Clean(in.From)), forgotten))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = memory.MergeLedger(filepath.Join(in.Data, forgotten), b)
	}
	if err != nil {
		return fmt.Errorf("take over the list of what was forgotten: %w", err)
	}
	return nil
}
