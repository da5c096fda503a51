package node

import (
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/node/health"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
	"github.com/cloister-os/cloister/store/blob/replica"
)

// road is the way to the other nodes, for what is carried in bulk.
type road struct{ *Node }

var (
	_ exchange.Peers  = road{}
	_ replica.Cluster = road{}
)

// Others implements exchange.Peers.
func (n road) Others() []string {
	r := n.roster.Load()
	if n.port == nil || r == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(r.Addresses()))
}

// Client implements exchange.Peers.
func (n road) Client() *http.Client { return n.port.Client() }

// Voters implements replica.Cluster.
func (n road) Voters() int { return n.store.Voters() }

// Leads implements replica.Cluster.
func (n road) Leads() bool { return n.store.Leads() }

// blobReferencers are all that name blobs. A room that begins to must be here,
// or what it names is taken for garbage.
func blobReferencers() []blob.Referencer {
	return append(run.BlobReferencers(), graph.BlobReferencer())
}

func (n *Node) openBlobs(context.Context) (err error) {
	if n.blobs, err = blob.Open(n.disk.blobs(), blob.WithRing(n.dataRing())); err != nil {
		return err
	}
	n.blobs.Reserve(n.store.Writable)
	n.exchange = exchange.NewClient(road{n}, n.log)
	n.replica, err = replica.New(replica.Config{
		Node: n.place.Node, Store: n.store, Blobs: n.blobs, Client: n.exchange, Cluster: road{n}, Referencers: blobReferencers(), Logger: n.log,
	})
	if err != nil {
		return err
	}
	n.rooms.runs("the blobs' replica", n.replica.Run)
	return nil
}

// serveBlobs lets the other nodes ask for blobs and for the models' files.
func (n *Node) serveBlobs(models ...exchange.Source) {
	n.peers.Handle(exchange.Prefix, exchange.NewServer(exchange.ServerConfig{
		Store: n.blobs, Sources: models, Doubt: n.replica.Doubt, Received: n.replica.Received, Hold: n.replica.Hold,
		Caller: cluster.Caller, Logger: n.log,
	}))
}

// blobMetrics say how this node stands with its blobs.
func (n *Node) blobMetrics() []health.Metric {
	s := n.replica.Status()
	return []health.Metric{
		{Name: "blobs_missing", Help: "Blobs that this node should hold and has not got yet.", Type: "gauge", Value: float64(s.Missing)},
		{Name: "blobs_missing_bytes", Help: "Their size.", Type: "gauge", Value: float64(s.MissingBytes)},
		{Name: "blobs_waiting", Help: "Blobs that a second node must take before they are named.", Type: "gauge", Value: float64(s.Waiting)},
		{Name: "blobs_pulled_total", Help: "Blobs that came from other nodes.", Type: "counter", Value: float64(s.Pulled)},
		{Name: "blobs_pulled_bytes_total", Help: "Their size.", Type: "counter", Value: float64(s.PulledBytes)},
		{Name: "blobs_pushed_total", Help: "Blobs that other nodes took from this one.", Type: "counter", Value: float64(s.Pushed)},
		{Name: "blobs_damaged_total", Help: "Blobs found damaged on this node's disk.", Type: "counter", Value: float64(s.Damaged)},
		{Name: "blobs_repaired_total", Help: "Damaged blobs that another node replaced.", Type: "counter", Value: float64(s.Repaired)},
		{Name: "blobs_deleted_total", Help: "Blobs deleted because nothing names them.", Type: "counter", Value: float64(s.Deleted)},
		{Name: "blobs_scrubbed_bytes_total", Help: "Bytes read to find damage.", Type: "counter", Value: float64(s.Scrubbed)},
	}
}
