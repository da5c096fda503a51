package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/sealed"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/view"
)

// sealKey says how the cluster keeps the root key: the file of shares, or nothing
// when each node has a file with the key. Every node adopts it.
const sealKey store.Key = "S/seal/root"

// openKeys opens the seal. When it is one by shares, it answers on the listener with
// health and the bringing of shares, and nothing else, until enough of them came.
func (n *Node) openKeys(ctx context.Context) (*seal.Keys, error) {
	locked, err := seal.Lock(n.disk.seal())
	if err != nil {
		return nil, err
	}
	if locked == nil {
		return seal.Open(n.disk.seal())
	}
	cert, err := locked.Front()
	if err != nil {
		return nil, err
	}
	page, err := ui.Unseal(n.cfg.Node, shares{locked}, n.log)
	if err != nil {
		return nil, err
	}
	routes := api.Unseal(locked)
	n.front.enter(phase{
		name: "sealed", sentence: "This node is sealed: people must bring their shares, at " + n.URL() + "/unseal or with cloister seal unseal.",
		also: func(path string) http.Handler {
			if h := routes(path); h != nil {
				return h
			}
			return page(path)
		},
	})
	n.serveFront(&tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2", "http/1.1"}})
	n.log.Warn("this node is sealed and waits for shares", "need", locked.Status().Need, "at", n.URL()+"/unseal")
	select {
	case <-locked.Opened():
		n.log.Info("the seal is open")
		return locked.Keys(), nil
	case err := <-n.rooms.fatal:
		return nil, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// dataRing is what everything on the disk is sealed with.
func (n *Node) dataRing() sealed.Ring {
	if n.cfg.Unsealed {
		return nil
	}
	return n.ring
}

// shares is a locked seal as the page wants it.
type shares struct{ *seal.Locked }

// Shares implements ui.Sealed.
func (s shares) Shares() ui.Shares { return s.of(s.Status()) }

// Offer implements ui.Sealed.
func (s shares) Offer(share string) (ui.Shares, error) {
	now, err := s.Locked.Offer(share)
	var many *seal.TooManyError
	switch {
	case errors.As(err, &many):
		return ui.Shares{}, &ui.RefusedError{Sentence: err.Error(), Wait: many.Wait}
	case errors.Is(err, seal.ErrShare):
		return ui.Shares{}, &ui.RefusedError{Sentence: err.Error()}
	}
	return s.of(now), err
}

func (s shares) of(now seal.LockedStatus) ui.Shares {
	out := ui.Shares{Need: now.Need, Missing: now.Missing}
	for _, h := range now.Holders {
		out.Holders = append(out.Holders, view.ShareHolder{Name: h.Name, Given: h.Given})
	}
	return out
}

// keepFront makes the certificate with which this node asks for shares, when its
// next start will have to.
func (n *Node) keepFront() error {
	if _, _, shared := n.keys.Shared(); !shared {
		return nil
	}
	host, _, err := net.SplitHostPort(n.cfg.Listen)
	if err != nil {
		return err
	}
	names, ips := split(append([]string{host, n.place.Service}, n.cfg.Names...))
	if a, ok := n.listener.Addr().(*net.TCPAddr); ok && a.IP.IsUnspecified() {
		ips = append(ips, interfaceIPs()...)
	}
	return n.keys.KeepFront(n.ca, frontIdentity(names, ips))
}

// openRotation goes on with a change of the data key that an earlier life began, and
// follows how the cluster keeps the root key.
func (n *Node) openRotation(context.Context) error {
	n.rotation = seal.NewRotation(n.ring, n.log,
		seal.Named{Name: "the log, the databases and the snapshots", Holder: n.store},
		seal.Named{Name: "the blobs", Holder: n.blobs},
		seal.Named{Name: "the index", Holder: n.index})
	n.rooms.runs("the data key's rotation", n.rotation.Run)
	n.rooms.runs("the seal", n.followSeal)
	return nil
}

// sealRetry is how soon the cluster's seal is looked at again after a failure.
const sealRetry = 10 * time.Second

// followSeal makes this node's seal what the cluster's is.
func (n *Node) followSeal(ctx context.Context) error {
	for ctx.Err() == nil {
		from := n.store.Applied()
		if err := n.adoptSeal(ctx); err != nil {
			n.log.Warn("this node's seal could not be made what the cluster's is", "error", err)
		} else if err := n.sealChange(ctx, from); err == nil {
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(sealRetry):
		}
	}
	return nil
}

func (n *Node) sealChange(ctx context.Context, from store.Version) error {
	for _, err := range n.store.Watch(ctx, sealKey, from) {
		return err
	}
	return ctx.Err()
}

func (n *Node) adoptSeal(ctx context.Context) error {
	var file []byte
	err := n.store.View(ctx, store.Local, func(s store.Snapshot) error {
		item, err := s.Get(sealKey)
		file = bytes.Clone(item.Value)
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // nobody has ever changed it
	}
	if err != nil {
		return err
	}
	return errors.Join(n.keys.Adopt(file), n.keepFront())
}

// sealing is the seal as the API sees it: each call passes the guard and is on
// record; a share never is.
type sealing struct{ n *Node }

var _ api.Seal = sealing{}

// Status implements api.Seal.
func (s sealing) Status(ctx context.Context, p auth.Principal) (out wire.Seal, err error) {
	req := guard.Request{Principal: p, Action: auth.SealManage, Resource: auth.TheSystem, Args: []string{"status"}}
	err = s.n.guard.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		out.Kind = "file"
		if holders, need, shared := s.n.keys.Shared(); shared {
			out.Kind, out.Need, out.Holders = "shares", need, holders
		}
		out.Rotation = wireRotation(s.n.rotation.Status())
		return guard.Outcome{}, nil
	})
	return out, err
}

func wireRotation(s seal.RotationStatus) *wire.Rotation {
	out := &wire.Rotation{Active: wire.DataKey(s.Active), Rotating: s.Rotating, Step: s.Step, Waiting: s.Waiting, Problem: s.Problem}
	for _, k := range s.Old {
		out.Old = append(out.Old, wire.DataKey(k))
	}
	return out
}

// Rotate implements api.Seal.
func (s sealing) Rotate(ctx context.Context, p auth.Principal) (key seal.DataKey, err error) {
	err = s.do(ctx, p, "rotate", nil, func(context.Context) error {
		key, err = s.n.rotation.Start()
		return err
	})
	return key, err
}

// Split implements api.Seal.
func (s sealing) Split(ctx context.Context, p auth.Principal, holders []string, need int) (out []seal.Share, err error) {
	err = s.do(ctx, p, "split", map[string]any{"holders": len(holders), "need": need}, func(context.Context) error {
		out, err = s.n.keys.Split(holders, need)
		return err
	})
	return out, err
}

// Confirm implements api.Seal.
func (s sealing) Confirm(ctx context.Context, p auth.Principal, texts []string) error {
	return s.do(ctx, p, "confirm", nil, func(ctx context.Context) error {
		file, err := s.n.keys.Confirm(texts)
		if err != nil {
			return err
		}
		return s.change(ctx, file)
	})
}

// Unsplit implements api.Seal.
func (s sealing) Unsplit(ctx context.Context, p auth.Principal) error {
	return s.do(ctx, p, "file", nil, func(ctx context.Context) error { return s.change(ctx, nil) })
}

// change tells all nodes first: then this one cannot be the only one that changed.
func (s sealing) change(ctx context.Context, file []byte) error {
	tx := store.NewTx()
	tx.Put(sealKey, file)
	if _, err := s.n.store.Apply(ctx, tx); err != nil {
		return fmt.Errorf("tell the cluster: %w", err)
	}
	return errors.Join(s.n.keys.Adopt(file), s.n.keepFront())
}

func (s sealing) do(ctx context.Context, p auth.Principal, what string, more map[string]any, act func(context.Context) error) error {
	detail := map[string]any{"what": what, "node": s.n.cfg.Node}
	for k, v := range more {
		detail[k] = v
	}
	req := guard.Request{Principal: p, Action: auth.SealManage, Resource: auth.TheSystem, Args: []string{what}, Detail: detail}
	return s.n.guard.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.SealManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		return guard.Outcome{}, act(ctx)
	})
}
