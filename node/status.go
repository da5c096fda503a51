package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/health"
)

// status says how the node is, to somebody whom the guard let through.
func (n *Node) status(ctx context.Context, p auth.Principal) (wire.Status, error) {
	out := wire.Status{
		Node: n.cfg.Node, Version: n.version, Started: n.started.UTC(), User: p.Name, LogKey: n.audit.Fingerprint(),
		Store: wire.StoreStatus{Applied: uint64(n.store.Applied())}, Models: []string{}, Sources: []wire.SourceShort{},
	}
	if err := n.store.Writable(); err != nil {
		out.Store.ReadOnly = err.Error()
	}
	if w := n.web.Status().Warning; w != "" {
		out.Warnings = append(out.Warnings, w)
	}
	if err := n.heard(ctx, &out); err != nil {
		return out, err
	}
	blobs := n.replica.Status()
	out.Blobs = wire.BlobStatus{Missing: blobs.Missing, MissingBytes: blobs.MissingBytes, Damaged: blobs.Damaged, Repaired: blobs.Repaired}
	engine := n.engine.Status()
	out.Engine.State = "ready"
	if !engine.Ready {
		out.Engine.State, out.Engine.Reason = "unavailable", engine.Reason
		if engine.Reason == "starting" {
			out.Engine.State, out.Engine.Reason = "starting", ""
		}
	}
	if n.guard.Decide(ctx, guard.Request{Principal: p, Action: auth.ModelList, Resource: auth.TheSystem}) == nil {
		list, err := n.registry.Models(ctx)
		if err != nil {
			return out, err
		}
		for _, m := range list {
			out.Models = append(out.Models, m.Name)
		}
	}
	sources, err := n.sources.List(ctx, p)
	for _, s := range sources {
		out.Sources = append(out.Sources, wire.SourceShort{Name: s.Name, Stage: s.Progress.Stage, Running: s.Progress.Running, Error: s.Progress.Error, AsOf: s.Watermark})
	}
	return out, err
}

// heard adds what is amiss with the directories.
func (n *Node) heard(ctx context.Context, out *wire.Status) error {
	list, err := n.people.Status(ctx)
	for _, name := range slices.Sorted(maps.Keys(list)) {
		h := list[name]
		out.Directories = append(out.Directories, wire.DirectoryShort{Name: name, DirectoryHeard: api.Heard(h)})
		switch {
		case !h.Silent.IsZero():
			out.Warnings = append(out.Warnings, fmt.Sprintf("The directory %s has not answered since %s: who is signed in goes on with what it said last, until %s.",
				name, h.Silent.UTC().Format(time.TimeOnly), h.Ends().UTC().Format(time.DateTime)))
		case h.Took > slowDirectory:
			out.Warnings = append(out.Warnings, fmt.Sprintf("The directory %s takes %s to say what %d signed-in people may do, so that what is taken from them there counts late.",
				name, h.Took.Round(time.Second), h.People))
		}
	}
	return err
}

// slowDirectory is when what was taken from somebody in the directory may count
// later than after ten seconds.
const slowDirectory = 5 * time.Second

// metrics answers a scraper that is signed in, with an API key as a rule.
func (n *Node) metrics(w http.ResponseWriter, r *http.Request) {
	p, err := n.sessions.Authenticate(r)
	if err == nil {
		req := guard.Request{Principal: p, Action: auth.SystemStatus, Resource: auth.TheSystem, Detail: map[string]any{"what": "metrics"}}
		err = n.guard.Read(r.Context(), req, func(context.Context, *guard.Permit) (guard.Outcome, error) { return guard.Outcome{}, nil })
	}
	switch {
	case errors.Is(err, auth.ErrUnauthenticated):
		w.Header().Set("WWW-Authenticate", `Bearer realm="cloister"`)
		http.Error(w, "Sign in first: send an API key as Authorization: Bearer.", http.StatusUnauthorized)
		return
	case errors.Is(err, auth.ErrDenied):
		http.Error(w, "Not permitted.", http.StatusForbidden)
		return
	case err != nil:
		http.Error(w, "Try again in a moment.", http.StatusServiceUnavailable)
		return
	}
	engine := n.engine.Status()
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	err = n.requests.Write(w, append(n.blobMetrics(),
		health.Metric{Name: "store_version", Help: "Newest version of the store.", Type: "gauge", Value: float64(n.store.Applied())},
		health.Metric{Name: "index_version", Help: "Version up to which the index has followed.", Type: "gauge", Value: float64(n.index.Applied())},
		health.Metric{Name: "store_writable", Help: "1 when the store takes writes.", Type: "gauge", Value: truth(n.store.Writable() == nil)},
		health.Metric{Name: "engine_ready", Help: "1 when the model engine answers.", Type: "gauge", Value: truth(engine.Ready)},
		health.Metric{Name: "engine_restarts_total", Help: "Times the model engine was restarted.", Type: "counter", Value: float64(engine.Restarts)},
	)...)
	if err != nil {
		n.log.Debug("metrics were not written", "err", err)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
