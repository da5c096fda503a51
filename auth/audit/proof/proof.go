// Package proof writes and verifies bundles: one file that carries a range of
// the audit log to a place that has never seen the cluster.
//
// It promises: a bundle verifies only if every byte of it is what the holder of
// the log key exported; whatever was changed, dropped, reordered or forked is
// named, the first record by its sequence; the only thing trusted is the log
// key's fingerprint that the auditor noted at setup.
//
// It may import the standard library and golang.org/x/mod/sumdb and nothing of
// Cloister, so that cmd/cloister-verify stays small enough to be read.
package proof
