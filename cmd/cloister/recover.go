package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/node"
)

func nodeRecoverCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "recover --data DIR", Short: "When most nodes are lost for ever: go on with what one stopped node has", Args: needs(),
		Long: `Makes a stopped node the only one of its cluster. Use it only when so many nodes
are lost for ever that the others cannot decide any more, only on one node, and
after trying to bring the lost ones back: whatever only they had is lost, and what
this one had heard of and nobody may have acknowledged counts from now on.

The files are kept aside as they are. The cluster gets an identity of its own, so
that a node which comes back after all is not let in. The audit log opens an epoch.

When the root key is split, the holders are asked for their shares, which are not
shown; a script gives them with --shares-stdin, one a line.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, _ := cmd.Flags().GetString("data")
			if data == "" {
				return usagef("--data DIR is missing")
			}
			data, err := filepath.Abs(data)
			if err != nil {
				return err
			}
			return errors.Join(recoverNode(cmd, data), giveToOwner(data))
		},
	}
	cmd.Flags().String("data", "", "the data folder of the node that was stopped")
	cmd.Flags().String("confirm", "", "the node's name, in place of typing it")
	cmd.Flags().String("reason", "", "for the record")
	addSharesFlag(cmd)
	return cmd
}

func recoverNode(cmd *cobra.Command, data string) (err error) {
	ask, err := askShares(cmd)
	if err != nil {
		return err
	}
	w, err := node.Survey(cmd.Context(), data, ask, quietLogger())
	if err != nil {
		return err
	}
	defer func() {
		if closing := w.Close(); err == nil {
			err = closing
		}
	}()
	fmt.Fprint(os.Stderr, wreck(w))
	switch said, _ := cmd.Flags().GetString("confirm"); {
	case said == "":
		if err := confirm(cmd, "This cannot be undone.", w.Node, "--confirm "+w.Node); err != nil {
			return err
		}
	case said != w.Node:
		return fmt.Errorf("nothing was done: this is node %s, not %s", w.Node, clean(said))
	}
	why, _ := cmd.Flags().GetString("reason")
	out, err := w.Recover(cmd.Context(), why)
	if err != nil {
		return err
	}
	return show(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, `Node %s is the whole cluster now (audit log: %d records, epoch %d).
The files as they were are in %s: remove them once all is well.
Start it with cloister serve, and invite other nodes with empty data folders: cloister node invite
`, out.Node, out.Size, out.Epoch, out.Aside)
		return err
	})
}

// wreck says what there is and what would be done.
func wreck(w *node.Wreck) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Node %s in %s\n", clean(w.Node), w.Data)
	for _, m := range w.Members {
		fate := "is given up for lost"
		if m.ID == w.Node {
			fate = "goes on alone"
		}
		fmt.Fprintf(&b, "  %-20s %s\n", clean(m.ID), fate)
	}
	fmt.Fprintf(&b, "It holds version %d for certain, of %s.\n", w.Applied, when(w.Newest))
	if w.Doubtful > 0 {
		fmt.Fprintf(&b, "%d later entries of its log may never have been acknowledged to anyone; they will count.\n", w.Doubtful)
	}
	fmt.Fprintf(&b, "What only the other nodes had is lost. %s are copied aside first.\n", size(w.Bytes))
	return b.String()
}
