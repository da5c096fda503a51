package node

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cloister-os/cloister/agents/library"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/fence"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/models/gateway"
	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
)

// principal is the node itself, for what nobody asked for: schedules, indexes.
func (n *Node) principal() auth.Principal {
	return auth.Principal{Kind: auth.System, ID: n.cfg.Node, Name: n.cfg.Node}
}

func (n *Node) openGateway(ctx context.Context) error {
	prices, err := budget.NewPrices(ctx, n.store, n.log)
	if err != nil {
		return err
	}
	n.rooms.runs("the prices", prices.Run)
	n.gateway, err = gateway.New(gateway.Config{Guard: n.guard, Engine: n.fleet, Registry: n.registry, Prices: prices, Logger: n.log})
	return err
}

// openGraph opens the sources, the indexes that follow them, and the answers.
func (n *Node) openGraph(context.Context) (err error) {
	own := fence.New(n.cfg.Data, n.disk.seal(), n.disk.tls()) // the keys are no document
	n.sources, err = connect.New(connect.Config{
		Store: n.store, Blobs: n.blobs, Door: n.guard, Connectors: []connect.Connector{git.New(), files.New().Except(own)},
		Node: n.principal(), Every: every(n.cfg.Sync.Every), Logger: n.log, Now: n.clock.Now, Leads: n.store.Leads, Away: n.away,
		Policies: n.policies, Keys: n.keyPrincipals, Groups: n.knownGroups,
	})
	if err != nil {
		return err
	}
	n.rooms.opened("the sources", n.sources.Close)
	n.index, err = search.Open(search.Config{Dir: n.disk.index(), Store: n.store, Blobs: n.blobs, Ring: n.dataRing(), Logger: n.log})
	if err != nil {
		return err
	}
	n.rooms.opened("the index", n.index.Close)
	n.rooms.runs("the index's following", n.index.Run)
	n.rooms.runs("the embedding route", n.followEmbedding)
	n.rooms.runs("the model pack", n.importPack)
	n.rooms.runs("the syncs", n.sources.Run)
	n.answers, err = answer.New(answer.Config{Store: n.store, Blobs: n.blobs, Index: n.index, Embed: n.embedder(), Logger: n.log})
	return err
}

// keyPrincipals are the API keys as policies see them.
func (n *Node) keyPrincipals(ctx context.Context, p auth.Principal) ([]auth.Principal, error) {
	list, err := n.sessions.ListKeys(ctx, p)
	out := make([]auth.Principal, 0, len(list))
	for _, k := range list {
		out = append(out, auth.Principal{Kind: auth.APIKey, ID: k.ID, Name: k.Name, Scopes: k.Scopes, Sources: k.Sources})
	}
	return out, err
}

// knownGroups are the groups of directories that give roles, for whoever may see
// them.
func (n *Node) knownGroups(ctx context.Context, p auth.Principal) (map[string]connect.Group, error) {
	list, err := n.people.List(ctx, p)
	out := map[string]connect.Group{}
	for _, dir := range list {
		for _, g := range dir.Grants {
			id := dir.Name + "/" + g.Group
			out[id] = connect.Group{Name: g.Name, Roles: append(out[id].Roles, g.Role)}
		}
	}
	return out, err
}

// embedder makes vectors in the name of whoever asked, or of the node when
// nobody did.
type embedder struct {
	gateway *gateway.Gateway
	node    *gateway.Embedder
}

var _ graph.Embedder = (*embedder)(nil)

func (n *Node) embedder() *embedder { return &embedder{n.gateway, n.gateway.Embedder(n.principal())} }

// Embed implements graph.Embedder.
func (e *embedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if p, ok := library.Caller(ctx); ok {
		return e.gateway.Embedder(p).Embed(ctx, texts)
	}
	return e.node.Embed(ctx, texts)
}

// Model implements graph.Embedder.
func (e *embedder) Model() string { return e.node.Model() }

// Dimensions implements graph.Embedder.
func (e *embedder) Dimensions() int { return e.node.Dimensions() }

// followEmbedding gives the index an embedder while the embedding route leads to
// a model, and takes it away when it does not.
func (n *Node) followEmbedding(ctx context.Context) error {
	return n.registry.Follow(ctx, func() {
		if e := n.embedder(); e.Model() != "" {
			n.index.SetEmbedder(e)
		} else {
			n.index.SetEmbedder(nil)
		}
	})
}

// cited reads a citation's bytes again: of a document's text, or of any other
// record's payload, as they were at the version that was cited.
func (n *Node) cited(ctx context.Context, p auth.Principal, in api.CitationInput) (wire.Passage, error) {
	id, err := graph.ParseRecordID(in.Record)
	if err != nil || id.Source != in.Source {
		return wire.Passage{}, fmt.Errorf("%w: a record of source %q is named like SOURCE/STREAM/KEY", store.ErrInvalid, in.Source)
	}
	src, err := n.sources.Get(ctx, p, in.Source)
	if err != nil {
		return wire.Passage{}, err
	}
	if newest := n.store.Applied(); store.Version(in.Version) > newest {
		return wire.Passage{}, fmt.Errorf("%w: version %d is not there yet, the newest is %d", store.ErrInvalid, in.Version, newest)
	}
	out := wire.Passage{Source: in.Source, Record: in.Record, Version: in.Version, Start: in.Start, End: in.End}
	req := guard.Request{Principal: p, Action: auth.SourceRead, Resource: graph.SourceResource(src.Source), Args: in, Detail: map[string]any{"what": "citation"}}
	err = n.guard.Read(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		err := n.store.View(ctx, store.At(store.Version(in.Version)), func(s store.Snapshot) error {
			r := graph.NewReader(s, graph.AccessTo(in.Source), n.blobs)
			if was, err := graph.Was(s, src.Source); err != nil || !was {
				return errors.Join(err, fmt.Errorf("there is no record %q at version %d: %w", in.Record, in.Version, store.ErrNotFound))
			}
			rec, err := r.Record(id)
			if err != nil {
				return fmt.Errorf("there is no record %q at version %d: %w", in.Record, in.Version, err)
			}
			content := rec.Payload
			if !rec.Text.IsZero() {
				content = rec.Text
			}
			if in.End <= in.Start || in.End > content.Size {
				return fmt.Errorf("%w: record %q has %d bytes at version %d", store.ErrInvalid, in.Record, content.Size, in.Version)
			}
			b, err := r.Range(content, int(in.Start), int(in.End))
			if err != nil {
				return err
			}
			sum := sha256.Sum256(b)
			out.Text, out.SHA256, out.Title, out.URI = string(b), hex.EncodeToString(sum[:]), rec.Title, rec.URI
			return nil
		})
		return guard.Outcome{Usage: map[string]int64{"bytes": in.End - in.Start}}, err
	})
	if err != nil {
		return wire.Passage{}, err
	}
	return out, nil
}
