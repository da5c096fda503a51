package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/auth/audit/proof"
	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/store/backup"
)

func backupCommand() *cobra.Command {
	return group("backup", "Save everything that the cluster keeps, and bring it back",
		backupCreateCommand(), backupListCommand(), backupVerifyCommand(), backupRestoreCommand(), backupKeygenCommand())
}

func backupListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the backups in the node's folder", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var page wire.Backups
			if err := get(cmd, "/api/v1/backups", &page); err != nil {
				return err
			}
			return show(cmd, page, func(w io.Writer) error { return writeBackups(w, page) })
		},
	}
}

func writeBackups(w io.Writer, page wire.Backups) error {
	var rows [][]string
	for _, b := range page.Backups {
		if b.Problem != "" {
			rows = append(rows, []string{b.Name, "", "", "", "", clean(b.Problem)})
			continue
		}
		rows = append(rows, []string{b.Name, when(b.Time), size(b.Bytes), fmt.Sprint(b.Blobs), b.Node, or(b.Parent, "nothing")})
	}
	if err := table(w, []string{"BACKUP", "MADE", "SIZE", "FILES", "BY", "BUILDS ON"}, rows); err != nil {
		return err
	}
	line := fmt.Sprintf("They are in %s of node %s.", page.Folder, page.Node)
	switch {
	case page.Running != "":
		line += fmt.Sprintf(" A %s is under way: %s, %s.", page.Running, page.Progress.Step, size(page.Progress.Done))
	case page.Last.Error != "":
		line += " The last " + page.Last.What + " failed: " + clean(page.Last.Error)
	}
	_, err := fmt.Fprintln(w, line)
	return err
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func backupCreateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "create [--to DIR]", Short: "Make a backup while the cluster goes on", Args: needs(),
		Long: `Makes a backup in the node's folder of backups (backup.to). It holds what came
since the newest one there, or everything when there is none.

With --to the backup, and those that it builds on, are also brought to a folder of
this machine; what is there already is not sent again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			full, _ := cmd.Flags().GetBool("full")
			c, err := dial()
			if err != nil {
				return err
			}
			if err := c.Do(cmd.Context(), http.MethodPost, "/api/v1/backups", wire.NewBackup{Full: full}, nil); err != nil {
				return err
			}
			page, err := followBackup(cmd, c, "backup")
			if err != nil {
				return err
			}
			made, err := newest(page)
			if err != nil {
				return err
			}
			where := page.Folder + " of node " + page.Node
			if to, _ := cmd.Flags().GetString("to"); to != "" {
				if err := take(cmd, c, page, made, to); err != nil {
					return err
				}
				where = to
			}
			return show(cmd, made, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "Backup %s is made (%s, in %s).\n", made.Name, size(made.Bytes), where)
				return err
			})
		},
	}
	cmd.Flags().Bool("full", false, "begin a new chain instead of building on the newest backup")
	cmd.Flags().String("to", "", "a folder of this machine to bring it to")
	return cmd
}

func newest(page wire.Backups) (wire.Backup, error) {
	i := slices.IndexFunc(page.Backups, func(b wire.Backup) bool { return b.Name == page.Last.Name })
	if i < 0 {
		return wire.Backup{}, fmt.Errorf("the backup %s was made and is no longer listed: run cloister backup list", page.Last.Name)
	}
	return page.Backups[i], nil
}

// followBackup waits for work that was begun.
func followBackup(cmd *cobra.Command, c *client.Client, what string) (page wire.Backups, err error) {
	b := newBar()
	defer b.clear()
	for {
		page = wire.Backups{}
		if err := c.Do(cmd.Context(), http.MethodGet, "/api/v1/backups", nil, &page); err != nil {
			return page, err
		}
		if page.Running == "" && page.Last.What == what {
			if page.Last.Error != "" {
				return page, fmt.Errorf("the %s failed: %s", what, page.Last.Error)
			}
			return page, nil
		}
		b.show(or(page.Progress.Step, what), page.Progress.Done, page.Progress.Total, size(page.Progress.Done))
		select {
		case <-time.After(200 * time.Millisecond):
		case <-cmd.Context().Done():
			return page, fmt.Errorf("the %s goes on without you: cloister backup list shows how it fares", what)
		}
	}
}

// take brings a backup and those that it builds on to a folder.
func take(cmd *cobra.Command, c *client.Client, page wire.Backups, b wire.Backup, to string) error {
	for {
		if err := takeOne(cmd, c, b, to); err != nil {
			return err
		}
		if b.Parent == "" {
			return nil
		}
		i := slices.IndexFunc(page.Backups, func(o wire.Backup) bool { return o.Name == b.Parent })
		if i < 0 {
			return fmt.Errorf("the backup %s is missing from the node's folder, and %s builds on it", b.Parent, b.Name)
		}
		b = page.Backups[i]
	}
}

// takeOne brings a backup's files; the manifest comes last, so that what is cut
// is no backup.
func takeOne(cmd *cobra.Command, c *client.Client, b wire.Backup, to string) error {
	if !backup.ValidName(b.Name) {
		return fmt.Errorf("the node names a backup %q, which cannot be", clean(b.Name))
	}
	dir := filepath.Join(to, b.Name)
	if _, err := os.Stat(filepath.Join(dir, "manifest")); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, name := range append(b.Files, "manifest") {
		if filepath.Base(name) != name || strings.HasPrefix(name, ".") {
			return fmt.Errorf("the node names a file %q, which cannot be", clean(name))
		}
		if err := takeFile(cmd, c, b.Name, name, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func takeFile(cmd *cobra.Command, c *client.Client, backup, name, path string) error {
	f, err := os.OpenFile(path+".part", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err := c.Fetch(cmd.Context(), fmt.Sprintf("/api/v1/backups/%s/files/%s?offset=%d", backup, name, info.Size()), f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

func backupVerifyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify --log-key FINGERPRINT FOLDER/BACKUP", Short: "Check every byte of a backup and of those that it builds on; no key is needed", Args: needs("the BACKUP"),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, _ := cmd.Flags().GetString("log-key")
			if key == "" {
				return usagef("give the log key's fingerprint that was noted at setup: --log-key SHA256:…")
			}
			at := filepath.Clean(args[0])
			c, err := backup.Folder{Dir: filepath.Dir(at), Verify: rescue.Verifier(key)}.Chain(filepath.Base(at))
			if err != nil {
				return err
			}
			b := newBar()
			err = c.Check(cmd.Context(), func(p backup.Progress) { b.show(p.Step, p.Done, p.Total, size(p.Done)+" of "+size(p.Total)) })
			b.clear()
			if err != nil {
				return err
			}
			m := c.Last()
			return show(cmd, map[string]any{"verified": true, "backup": m.Name, "chain": c.Len(), "bytes": c.Bytes(), "time": m.Time, "cluster": m.Cluster}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "VERIFIED\n  backup  %s, made %s by node %s\n  chain   %d backups, %s\n  log     %s\n", m.Name, when(m.Time), m.Node, c.Len(), size(c.Bytes()), m.Cluster)
				return err
			})
		},
	}
	cmd.Flags().String("log-key", "", "the fingerprint of the log key, SHA256:…, from your own notes")
	return cmd
}

func backupKeygenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "keygen --out FILE", Short: "Make a recovery key: it opens backups when the root key is lost", Args: needs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, _ := cmd.Flags().GetString("out")
			if out == "" {
				return usagef("say where the secret half goes: --out FILE")
			}
			secret, public, err := node.NewRecoveryKey()
			if err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			if _, err := io.WriteString(f, secret); err != nil {
				f.Close()
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
			return show(cmd, map[string]string{"file": out, "recovery": public}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s holds the secret half: take it off this machine and lock it away; whoever has it and a backup has everything.\nSet this on every node, in its configuration:\n\n  [backup]\n  recovery = %q\n", out, public)
				return err
			})
		},
	}
	cmd.Flags().String("out", "", "the file for the secret half")
	return cmd
}

func backupRestoreCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "restore --from FOLDER/BACKUP --data DIR --node NAME [--root-key FILE]", Short: "Bring a cluster back, on bare machines or where it runs", Args: needs(),
		Long: `On a bare machine it makes the first node of the cluster out of a backup; further
nodes join it as they joined the first time. It needs the root key: the file
root.key of the seal folder of any old node, or the recovery key. When the root key
was split as the backup was made, its holders are asked for their shares instead,
which are not shown; a script gives them with --shares-stdin, one a line.

With --running NAME it brings the running cluster back to the backup of that name
in the folder of the node that leads. Everything since the backup is lost.

Either way the audit log opens an epoch: an auditor who holds what was lost is told
so by cloister-verify.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name, _ := cmd.Flags().GetString("running"); name != "" {
				return restoreRunning(cmd, name)
			}
			return restoreBare(cmd)
		},
	}
	f := cmd.Flags()
	f.String("from", "", "the backup, beside those that it builds on")
	f.String("data", "", "a new or empty folder for everything the node keeps")
	f.String("node", "", "the name of the first node: better not one of the old names")
	f.String("root-key", "", "the file root.key of an old node's seal folder, or a recovery key; without it the holders bring their shares")
	addSharesFlag(cmd)
	f.String("after", "", "the newest checkpoint or export of the audit log that anybody holds, to say what was lost")
	f.String("running", "", "bring the running cluster back to the backup of this name")
	f.String("reason", "", "for the record")
	f.Bool("yes", false, "do not ask")
	return cmd
}

func restoreBare(cmd *cobra.Command) error {
	var in node.Bare
	for flag, to := range map[string]*string{"from": &in.From, "data": &in.Data, "node": &in.Node} {
		if *to, _ = cmd.Flags().GetString(flag); *to == "" {
			return usagef("--%s is missing", flag)
		}
	}
	in.Reason, _ = cmd.Flags().GetString("reason")
	if err := openedWith(cmd, &in); err != nil {
		return err
	}
	var err error
	if after, _ := cmd.Flags().GetString("after"); after != "" {
		if in.Before, err = readCheckpoint(after); err != nil {
			return err
		}
	}
	if in.Data, err = filepath.Abs(in.Data); err != nil {
		return err
	}
	in.Log = quietLogger()
	b := newBar()
	out, err := node.Restore(cmd.Context(), in, func(p backup.Progress) { b.show(p.Step, p.Done, p.Total, size(p.Done)) })
	b.clear()
	if err := errors.Join(err, giveToOwner(in.Data)); err != nil {
		return err
	}
	return show(cmd, out, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, `%s holds the cluster as it was at %s.
  audit log      %d records, epoch %d, key %s
  files          %d
%s
Start it with:

  cloister serve --data %s --listen HOST:PORT --cluster-peer HOST:PORT

Then invite the other nodes anew: cloister node invite
`, out.Data, out.Taken, out.Size, out.Epoch, out.LogKey, out.Blobs, sharedNote(out.Shared), out.Data)
		return err
	})
}

func sharedNote(shared bool) string {
	if shared {
		return "\nAt its start the holders must bring their shares again: cloister seal unseal\n"
	}
	return ""
}

// openedWith says what the backup is opened with: a file with the root key, or the
// shares of its holders.
func openedWith(cmd *cobra.Command, in *node.Bare) (err error) {
	keyFile, _ := cmd.Flags().GetString("root-key")
	if keyFile == "" {
		in.Shares, err = askShares(cmd)
		return err
	}
	file, err := os.ReadFile(keyFile)
	if err != nil {
		return err
	}
	in.Root, err = node.RootKey(file, in.From)
	return err
}

// readCheckpoint takes the checkpoint out of what an auditor took away.
func readCheckpoint(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	note, err := proof.CheckpointIn(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: give what cloister audit checkpoint or cloister audit export wrote", path, err)
	}
	return note, nil
}

func restoreRunning(cmd *cobra.Command, name string) error {
	if yes, _ := cmd.Flags().GetBool("yes"); !yes {
		if err := confirm(cmd, fmt.Sprintf("The whole cluster goes back to the backup %s. Everything since then is lost, and everybody's work stops for a moment.", clean(name)), name, "--yes"); err != nil {
			return err
		}
	}
	reason, _ := cmd.Flags().GetString("reason")
	if err := call(cmd, http.MethodPost, "/api/v1/backups/"+name+"/restore", wire.RestoreBackup{Confirm: name, Reason: reason}, nil); err != nil {
		return err
	}
	return say(cmd, "The cluster goes back to %s; its nodes start again in a moment. cloister status tells when.", clean(name))
}
