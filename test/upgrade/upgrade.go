// Package upgrade proves that a cluster is upgraded node by node without losing
// anything, that one can go back until it is finalised, and that data of every
// format ever released opens.
//
// format-N.commit names the last commit that wrote format N: the test takes it out
// of the repository into build/upgrade, builds its small test node, and runs it
// beside today's. It may import the wire of test/kvnode and store.
package upgrade
