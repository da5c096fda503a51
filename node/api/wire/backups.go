package wire

import "time"

// Backups is what a node's folder of backups holds, and what is being done.
type Backups struct {
	Node     string         `json:"node" doc:"The node that was asked; each has a folder of its own"`
	Folder   string         `json:"folder"`
	Backups  []Backup       `json:"backups" doc:"Oldest first"`
	Running  string         `json:"running,omitempty" enum:"backup,restore" doc:"What is under way; absent = nothing"`
	Progress BackupProgress `json:"progress,omitzero"`
	Last     BackupEnd      `json:"last,omitzero" doc:"How the newest work since the node's start ended"`
}

// Backup is one backup.
type Backup struct {
	Name    string    `json:"name"`
	Time    time.Time `json:"time,omitzero"`
	Node    string    `json:"node,omitempty" doc:"The node that made it"`
	Parent  string    `json:"parent,omitempty" doc:"The backup that it builds on; absent = it stands alone"`
	Version uint64    `json:"version,omitempty" doc:"Of the data"`
	Bytes   int64     `json:"bytes,omitempty" doc:"What it takes, without those that it builds on"`
	Blobs   int64     `json:"blobs,omitempty" doc:"Files that it adds"`
	Files   []string  `json:"files,omitempty"`
	Problem string    `json:"problem,omitempty" doc:"Why it cannot be used"`
}

// BackupProgress is how far the work is.
type BackupProgress struct {
	Step  string `json:"step"`
	Done  int64  `json:"done" doc:"Bytes"`
	Total int64  `json:"total" doc:"Bytes; 0 = not known"`
}

// BackupEnd is how work ended.
type BackupEnd struct {
	What  string    `json:"what" enum:"backup,restore"`
	Name  string    `json:"name,omitempty" doc:"The backup"`
	Error string    `json:"error,omitempty"`
	Ended time.Time `json:"ended"`
}

// NewBackup asks for a backup.
type NewBackup struct {
	Full bool `json:"full,omitempty" doc:"Begin a new chain instead of building on the newest backup"`
}

// RestoreBackup asks for the cluster to be brought back to a backup.
type RestoreBackup struct {
	Confirm string `json:"confirm" maxLength:"100" doc:"The backup's name again: everything since it will be lost"`
	Reason  string `json:"reason,omitempty" maxLength:"400" doc:"For the record"`
}
