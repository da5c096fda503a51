// Package bulk tries what is carried in bulk between nodes, blobs and models, on
// three real processes: what was imported or read on one node is on all, also
// after a node was killed or has lost its disk, and a node without a model
// answers. It drives the binary like a person would and imports nothing of
// Cloister but test/cluster and the random model for tests.
package bulk
