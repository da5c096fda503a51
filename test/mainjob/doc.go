// Package mainjob does what a new user would do, as one test: start a node,
// complete the setup, import the starter pack, add a repository and a folder of
// documents that nobody has seen before, wait for the sync, ask, take the audit
// log away and verify it. It does so inside a namespace from which no packet may
// leave, once with the starter pack and once without any model.
//
// The test binary runs itself inside the namespace (see TestMain); what it finds
// there it writes as JSON for the test outside to judge.
package mainjob
