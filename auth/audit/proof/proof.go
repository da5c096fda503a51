// Package proof writes and verifies bundles: one file that carries a range of
// the audit log to a place that has never seen the cluster.
//
// It promises: a bundle verifies only if every byte of it is what the holder of
// the log key exported; whatever was changed, dropped, reordered or forked is
// named, the first record by its sequence; the only thing trusted is the log
// key's fingerprint that the auditor noted at setup.
//
// A bundle is a tar file of one fixed spelling that holds, in this order:
//
//	checkpoint              the signed checkpoint all is proven under (C2SP tlog-checkpoint)
//	keys.json               the key history; see Key
//	checkpoints/<size>      earlier checkpoints, each proven to be continued
//	epochs/<number>         the statements that opened the epochs after the first; see Epoch
//	cosigned/<node>         the newest checkpoint that each node cosigned, and its key; see Cosignature
//	tile/<level>/<number>   the tiles the proofs take (C2SP tlog-tiles, height 8)
//	records.jsonl           the records; see Line
//	records.digests         8 bytes of each line's SHA-256, to name the line that was changed
//	records.csv             the records as a table
//	openings.jsonl          the openings of personal fields, when asked for
//	report.html             a page to print
//	policies/<id>.cedar     the policies in force at the export
//	manifest                size and SHA-256 of each file, as a note signed by the log key
//
// What proves what: the fingerprint vouches for the keys, a key for checkpoint
// and manifest, the checkpoint's root for the tiles, the tiles for each record,
// the manifest for every other byte; the container's own bytes can have only
// one value.
//
// It may import the standard library and golang.org/x/mod/sumdb and nothing of
// Cloister, so that cmd/cloister-verify stays small enough to be read.
package proof
