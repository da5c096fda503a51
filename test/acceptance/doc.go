// Package acceptance does on three machines, from the medium alone, what an
// organisation does in its first week: install, form a cluster, join the
// directory, connect sources with two audiences, ask, lose a machine, take a group
// from somebody, take evidence away and verify it where the product is not. A way
// out leads to a recording sink, which must see nothing.
//
// It uses the packages, the shell and the network like the people it stands for.
package acceptance
