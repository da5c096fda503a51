// Package registry knows which models there are and which route leads to which.
//
// It promises: a model is in the registry only once an engine holds it, on two
// nodes where there are several; a route never points at a model that is not;
// what an administrator accepted of a licence stays with the model; for each
// node it says how far it is with a model (Standing). Applications call a route
// ("default"), never a vendor.
//
// It may import store, auth and models. Its reads are plain: callers come
// through the guard (models/pack and models/gateway).
package registry

import (
	"context"
	"errors"
	"iter"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/models"
	"github.com/cloister-os/cloister/store"
)

const (
	entries store.Space = "H/model/"         // name → Model
	texts   store.Space = "H/model-licence/" // SHA-256 → text
	routes  store.Space = "H/route/"         // name → Route
)

// MaxText is the longest licence text that is kept, in bytes.
const MaxText = 60 << 10

// The routes that exist by themselves.
const (
	Default   = "default"   // completions
	Embedding = "embedding" // vectors
)

// Model is one model of the house.
type Model struct {
	V          uint
	Name       string
	Kind       models.Kind
	About      string // one line
	Pack       string // "name version" of the pack it came in; "" = a bare file
	Trust      string // how the pack was vouched for, as models/pack says
	Digest     string // SHA-256 over what the model was made of
	Bytes      int64
	Dimensions int  // of an embedding model's vectors
	Base       bool // a base model: it continues text and follows no instructions
	Licence    string
	Terms      bool          // the licence binds whoever uses the model
	Text       models.Digest // of the licence's text; "" = none came with it
	Accepted   string        // id of the principal that accepted the terms
	Card       string        // what evaluations found, in Markdown
	Imported   int64         // Unix seconds, by the clock of the node that imported it
	Image      models.Image  // what every node's engine needs to hold it

	Nodes    map[string]Standing `cbor:"-"` // how each node stands with it; filled in by models/pack's List
	Version  store.Version       `cbor:"-"` // of its entry; filled in by Wanted
	leftover map[string]cbor.RawMessage
}

// Usable says whether the model may be called: its terms, if it has any, have
// been accepted.
func (m Model) Usable() bool { return !m.Terms || m.Accepted != "" }

// Route leads from a name that applications use to a model.
type Route struct {
	V        uint
	Name     string
	Model    string
	Kind     models.Kind
	leftover map[string]cbor.RawMessage
}

// Registry reads and writes the entries. It has no state of its own.
type Registry struct{ store store.Store }

// New returns the registry in a store.
func New(st store.Store) *Registry { return &Registry{store: st} }

// Models lists the models by name.
func (r *Registry) Models(ctx context.Context) ([]Model, error) {
	var list []Model
	err := r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		list = nil
		for m, err := range all(s) {
			if err != nil {
				return err
			}
			list = append(list, m)
		}
		return nil
	})
	return list, err
}

func all(s store.Snapshot) iter.Seq2[Model, error] {
	return func(yield func(Model, error) bool) {
		for item, err := range s.Scan(entries.Prefix(), "") {
			var m Model
			if err == nil {
				m, err = decodeModel(item)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// Get returns a model by name, or models.ErrNoModel.
func (r *Registry) Get(ctx context.Context, name string) (m Model, err error) {
	err = r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		m, err = get(s, name)
		return err
	})
	return m, err
}

func get(s store.Snapshot, name string) (Model, error) {
	item, err := s.Get(entries.Key(name))
	if errors.Is(err, store.ErrNotFound) {
		return Model{}, models.Fail(models.ErrNoModel, "there is no model %q: see which there are with cloister model list", printable(name))
	}
	if err != nil {
		return Model{}, err
	}
	return decodeModel(item)
}

// Resolve follows a route or takes a model's own name, and refuses a model that
// is not of the kind.
func (r *Registry) Resolve(ctx context.Context, name string, kind models.Kind) (m Model, err error) {
	err = r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		target := name
		route, err := getRoute(s, name)
		switch {
		case err == nil:
			target = route.Model
		case !errors.Is(err, store.ErrNotFound):
			return err
		case name == Default || name == Embedding:
			return models.Fail(models.ErrNoModel, "no %s model has been imported yet; an administrator imports one with: cloister model import FILE", kind)
		}
		m, err = get(s, target)
		return err
	})
	if err == nil && m.Kind != kind {
		return m, models.Fail(models.ErrInvalid, "%q is a model for %ss, not for %ss", m.Name, m.Kind, kind)
	}
	return m, err
}

// Routes lists the routes by name.
func (r *Registry) Routes(ctx context.Context) ([]Route, error) {
	var list []Route
	err := r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		list = nil
		for item, err := range s.Scan(routes.Prefix(), "") {
			if err != nil {
				return err
			}
			var route Route
			if route.leftover, err = decode(item.Value, &route); err != nil {
				return err
			}
			list = append(list, route)
		}
		return nil
	})
	return list, err
}

// LicenceText returns the text of a model's licence, or "".
func (r *Registry) LicenceText(ctx context.Context, name string) (text string, err error) {
	err = r.store.View(ctx, store.Local, func(s store.Snapshot) error {
		m, err := get(s, name)
		if err != nil || m.Text == "" {
			return err
		}
		item, err := s.Get(texts.Key(string(m.Text)))
		text = string(item.Value)
		return err
	})
	return text, err
}

// Put adds or replaces a model with its licence text, and makes it the target of
// its kind's own route when that leads nowhere.
func (r *Registry) Put(ctx context.Context, m Model, text string) error {
	if len(text) > MaxText {
		return models.Fail(models.ErrInvalid, "a licence text has at most %d KiB", MaxText>>10)
	}
	_, err := r.store.Update(ctx, func(u *store.Update) error {
		item, err := u.Get(entries.Key(m.Name))
		if err == nil {
			before, err := decodeModel(item)
			if err != nil {
				return err
			}
			m.leftover = before.leftover
			if m.Accepted == "" && before.Text == m.Text {
				m.Accepted = before.Accepted
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if m.Text != "" {
			u.Put(texts.Key(string(m.Text)), []byte(text))
		}
		m.V = 1
		return errors.Join(put(u, entries.Key(m.Name), m, m.leftover), ensureRoute(u, m))
	})
	return err
}

// Accept records who accepted a model's terms.
func (r *Registry) Accept(ctx context.Context, name, who string) error {
	_, err := r.store.Update(ctx, func(u *store.Update) error {
		if _, err := u.Get(entries.Key(name)); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		m, err := get(u.Snapshot, name)
		if err != nil {
			return err
		}
		m.Accepted = who
		return put(u, entries.Key(name), m, m.leftover)
	})
	return err
}

// Remove takes a model out and turns each route that led to it to another model
// of the kind, or removes it.
func (r *Registry) Remove(ctx context.Context, name string) error {
	_, err := r.store.Update(ctx, func(u *store.Update) error {
		if _, err := u.Get(entries.Key(name)); err != nil {
			if errors.Is(err, store.ErrNotFound) {
				_, err = get(u.Snapshot, name)
			}
			return err
		}
		u.Delete(entries.Key(name))
		for item, err := range u.Snapshot.Scan(routes.Prefix(), "") {
			if err != nil {
				return err
			}
			if err := redirect(u, item, name); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// redirect turns a route away from a model that goes.
func redirect(u *store.Update, item store.Item, gone string) error {
	var route Route
	leftover, err := decode(item.Value, &route)
	if err != nil || route.Model != gone {
		return err
	}
	if _, err := u.Get(item.Key); err != nil {
		return err
	}
	for m, err := range all(u.Snapshot) {
		if err != nil {
			return err
		}
		if m.Name != gone && m.Kind == route.Kind {
			route.Model = m.Name
			return put(u, item.Key, route, leftover)
		}
	}
	u.Delete(item.Key)
	return nil
}

func ensureRoute(u *store.Update, m Model) error {
	name := Default
	if m.Kind == models.Embedding {
		name = Embedding
	}
	key := routes.Key(name)
	_, err := u.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return put(u, key, Route{V: 1, Name: name, Model: m.Name, Kind: m.Kind}, nil)
	}
	return err
}

func getRoute(s store.Snapshot, name string) (Route, error) {
	var route Route
	item, err := s.Get(routes.Key(name))
	if err != nil {
		return route, err
	}
	route.leftover, err = decode(item.Value, &route)
	return route, err
}
