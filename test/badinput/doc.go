// Package badinput is what a user, a program or a disk can do wrong to a real
// node, and what must come of it.
//
// It promises nothing to anybody: it holds tests alone. Each of them runs the
// built binary and asks for the same: one line that says what to do, an exit code
// or a status that says it failed, and nothing lost. It may import
// models/pack, which builds the packs that it then spoils.
package badinput
