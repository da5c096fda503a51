// Package canary proves that a stopped node's files hold nothing in clear: it puts
// words that occur nowhere else wherever people and programs can put words, finds
// them all in the files of a node whose encryption is off, and then none in those of
// a node as it is, after an orderly stop and after a kill, before, while and after
// its keys change, nor in a core dump.
//
// It may import everything; nothing imports it.
package canary
