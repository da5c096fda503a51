// Package access tries to get past the door of a whole node, over HTTP, as those
// would who must not: somebody without a credential, keys that are too narrow,
// keys that are over, a page of another origin with somebody's cookie, documents
// and repositories made to lead the reader astray.
//
// It promises: every route that the node describes in its OpenAPI document, and
// every page, has an expectation for every caller, and a new one without fails;
// what may not be seen changes no byte of what a narrow key is told. It holds
// tests only.
package access
