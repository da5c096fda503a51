// Package exchange carries blobs between the nodes of a cluster, over HTTP: a
// Server on the node that holds them, a Client on the node that wants them.
//
// It promises: nothing is kept that does not match its hash, chunk by chunk and
// then whole; an interrupted pull goes on where it stopped; when one holder
// fails or lies, another is asked, and who sent wrong bytes of a blob is not
// asked for it again; what one request may hold in memory, and how many are
// served and sent at once, is bounded.
//
// Who may ask is decided below: the connections are those of members of the
// cluster (node/cluster). It may import store/blob.
package exchange

import (
	"errors"
	"net/http"
	"strings"

	"github.com/cloister-os/cloister/store/blob"
)

// Prefix is where the Server answers.
const Prefix = "/blob/v1/"

// Bounds of one request.
const (
	MaxBatch      = 256      // blobs of one Batch or Push
	MaxBatchBytes = 8 << 20  // of their bytes together, but for the last
	maxListBytes  = 16 << 20 // of a list of chunks
)

// ErrNowhere is the end of a search for a blob; the others are why a node was
// passed over.
var (
	ErrNowhere = errors.New("no other node that answers holds the blob")
	errWrong   = errors.New("it sent bytes that are not the blob's")
	errNotHeld = errors.New("it does not hold the blob")
	errBusy    = errors.New("it is busy or starting")
)

// reasons are several errors as one line.
type reasons []error

// Error implements error.
func (r reasons) Error() string {
	texts := make([]string, len(r))
	for i, err := range r {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap implements errors.Is and errors.As.
func (r reasons) Unwrap() []error { return r }

// Peers is the road to the other nodes.
type Peers interface {
	// Others are the names of the other members that may hold blobs.
	Others() []string
	// Client sends a request to the node that a URL has as its host.
	Client() *http.Client
}

// Source is where a Server finds blobs: *blob.Store, and the model engine.
type Source interface {
	// OpenLocal opens a blob whose bytes match its name, or fails with
	// blob.ErrNotFound.
	OpenLocal(h blob.Hash) (blob.File, int64, error)
}

// Item is a blob to send.
type Item struct {
	Hash blob.Hash
	Size int64
}
