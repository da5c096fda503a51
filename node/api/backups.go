package api

import (
	"context"
	"io"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/store/backup"
)

// Backups is what the API asks of the backups. *rescue.Service is one.
type Backups interface {
	List(ctx context.Context, p auth.Principal) (rescue.Page, error)
	Create(ctx context.Context, p auth.Principal, full bool) error
	Restore(ctx context.Context, p auth.Principal, name, confirm, reason string) error
	File(ctx context.Context, p auth.Principal, name, file string, offset int64, w io.Writer) error
}

var errNoBackups = problem(http.StatusServiceUnavailable, "This node makes no backups.", "")

// Fields of an embedded struct that is not exported would be left out.
type restoreInput struct {
	Name string `path:"name" maxLength:"100"`
	Body wire.RestoreBackup
}

type backupFileInput struct {
	Name   string `path:"name" maxLength:"100"`
	File   string `path:"file" maxLength:"100"`
	Offset int64  `query:"offset" minimum:"0" doc:"From this byte on, to go on where a transfer broke off"`
}

func (a *API) backupRoutes() {
	list := operation(http.MethodGet, "/api/v1/backups", "list-backups", "The backups of this node's folder, and what is being done")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Backups], error) {
		if a.cfg.Backups == nil {
			return nil, errNoBackups
		}
		page, err := a.cfg.Backups.List(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[wire.Backups]{wireBackups(page)}, nil
	})
	create := operation(http.MethodPost, "/api/v1/backups", "create-backup", "Begin a backup into this node's folder; the list tells how far it is")
	create.DefaultStatus = http.StatusAccepted
	handle(a, create, func(ctx context.Context, p auth.Principal, in *body[wire.NewBackup]) (*none, error) {
		if a.cfg.Backups == nil {
			return nil, errNoBackups
		}
		return nil, a.cfg.Backups.Create(ctx, p, in.Body.Full)
	})
	restore := operation(http.MethodPost, "/api/v1/backups/{name}/restore", "restore-backup", "Bring the whole cluster back to a backup; everything since it is lost")
	restore.DefaultStatus = http.StatusAccepted
	handle(a, restore, func(ctx context.Context, p auth.Principal, in *restoreInput) (*none, error) {
		if a.cfg.Backups == nil {
			return nil, errNoBackups
		}
		return nil, a.cfg.Backups.Restore(ctx, p, in.Name, in.Body.Confirm, in.Body.Reason)
	})
	file := operation(http.MethodGet, "/api/v1/backups/{name}/files/{file}", "backup-file", "One file of a backup, sealed as it is")
	file.Responses = map[string]*huma.Response{"200": {Description: "The file's bytes from the offset on", Content: map[string]*huma.MediaType{
		"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}},
	}}}
	handle(a, file, func(ctx context.Context, p auth.Principal, in *backupFileInput) (*huma.StreamResponse, error) {
		if a.cfg.Backups == nil {
			return nil, errNoBackups
		}
		return a.download(in.File, func(w io.Writer) error { return a.cfg.Backups.File(ctx, p, in.Name, in.File, in.Offset, w) }), nil
	})
}

func wireBackups(page rescue.Page) wire.Backups {
	out := wire.Backups{
		Node: page.Node, Folder: page.Dir, Running: page.Running, Backups: make([]wire.Backup, 0, len(page.Backups)),
		Last: wire.BackupEnd{What: page.Last.What, Name: page.Last.Name, Error: page.Last.Error, Ended: page.Last.Ended},
	}
	if page.Running != "" {
		out.Progress = wire.BackupProgress{Step: page.Progress.Step, Done: page.Progress.Done, Total: page.Progress.Total}
	}
	for _, e := range page.Backups {
		out.Backups = append(out.Backups, wireBackup(e))
	}
	return out
}

func wireBackup(e backup.Entry) wire.Backup {
	b := wire.Backup{Name: e.Name}
	if e.Err != nil {
		b.Problem = e.Err.Error()
		return b
	}
	m := e.Manifest
	b.Time, b.Node, b.Version, b.Bytes, b.Blobs = m.Time, m.Node, uint64(m.Head.Version), m.Bytes(), m.Blobs.Count
	if m.Parent != nil {
		b.Parent = m.Parent.Name
	}
	for _, f := range m.Files {
		b.Files = append(b.Files, f.Name)
	}
	return b
}
