// Package dialogue proves that follow-up questions are understood: it lets
// generated conversations (test/world, which knows nothing of how questions are
// read) go through the steps of an answer over real sources, and counts how many
// follow-ups are right and how many questions of their own were read as if they
// leaned on something.
package dialogue
