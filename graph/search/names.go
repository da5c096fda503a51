package search

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/blevesearch/bleve/v2"
	"github.com/blevesearch/bleve/v2/search/query"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// Namespaces of names that are properties, not identifiers.
const (
	NamespaceName  = "name"
	NamespaceTitle = "title"
)

// Bounds of a lookup.
const (
	maxPhrases    = 256
	maxNameHits   = 64 // entities for one phrase and source
	minFuzzyBytes = 6  // shorter phrases match exactly or not at all
)

// Named is an entity that a phrase may mean.
type Named struct {
	Phrase    string // normalised
	Entity    graph.EntityID
	Type      graph.Type
	Source    string
	Namespace string
	Value     string  // the name as the source has it
	Prior     float64 // how much of the name the phrase is: 1 = all of it
	Exact     bool    // false: one letter differs
}

// addNames indexes the names that a record gives to its entity.
func (p *partition) addNames(b *bleve.Batch, r *graph.Reader, rec graph.Record) error {
	for c, err := range r.Claims(rec.Entity) {
		if err != nil {
			return err
		}
		namespace := ""
		switch {
		case c.Record != rec.ID:
		case c.Property == graph.Title:
			namespace = NamespaceTitle
		case c.Property == graph.Name && rec.ID.Stream != graph.StreamDocument:
			namespace = NamespaceName
		}
		if namespace == "" || c.Value == "" {
			continue
		}
		entry := map[string]any{fieldKind: kindName, fieldRec: recTerm(rec.ID), fieldAlias: forms(namespace, c.Value)}
		if err := b.Index(entryID(kindName, namespace, c.Value, rec.Entity.String()), entry); err != nil {
			return err
		}
	}
	return nil
}

// setName makes the entry of an identifier what the reader sees.
func (p *partition) setName(b *bleve.Batch, r *graph.Reader, n name) error {
	id := entryID(kindName, n.namespace, n.value, n.entity.String())
	known, err := r.ByIdentifier(n.namespace, n.value)
	if err != nil {
		return err
	}
	if !slices.Contains(known, n.entity) {
		b.Delete(id)
		return nil
	}
	return b.Index(id, map[string]any{fieldKind: kindName, fieldAlias: forms(n.namespace, n.value)})
}

// forms are the normalised ways in which a name may be written: for a path its
// ends, with and without the extension; for a person the parts of the name; for
// a tag the name without its "v".
func forms(namespace, value string) []string {
	full := lex.Normalize(value)
	out := []string{full}
	add := func(s string) {
		if s != "" && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	switch namespace {
	case graph.NamespacePath:
		for rest := value; rest != ""; {
			add(lex.Normalize(rest))
			if dot := strings.LastIndexByte(rest, '.'); dot > strings.LastIndexByte(rest, '/')+1 {
				add(lex.Normalize(rest[:dot]))
			}
			_, after, more := strings.Cut(rest, "/")
			if !more {
				break
			}
			rest = after
		}
	case graph.NamespaceMail:
		local, _, _ := strings.Cut(value, "@")
		add(lex.Normalize(local))
	case NamespaceName:
		for _, part := range strings.Fields(value) {
			if len(part) > 2 {
				add(lex.Normalize(part))
			}
		}
	case graph.NamespaceTag:
		add(strings.TrimPrefix(full, "v"))
	}
	return out
}

// prior is how much of the name a form is.
func prior(namespace, value, form string) float64 {
	full := lex.Normalize(value)
	if form == full {
		return 1
	}
	switch namespace {
	case graph.NamespacePath:
		last := value[strings.LastIndexByte(value, '/')+1:]
		if form == lex.Normalize(last) {
			return 0.95
		}
		if strings.HasSuffix(full, form) {
			return 0.97
		}
		return 0.7
	case graph.NamespaceTag:
		return 0.95
	}
	return 0.6
}

// Names returns the entities that the phrases may mean: exactly or, for those for
// which near says so, with one letter different where nothing is meant exactly
// and the phrase is long enough. Phrases are normalised by the caller
// (lex.Normalize). What the reader may not see is looked at nowhere.
func (x *Index) Names(ctx context.Context, r *graph.Reader, phrases []string, near func(phrase string) bool) ([]Named, error) {
	phrases = phrases[:min(len(phrases), maxPhrases)]
	if len(phrases) == 0 {
		return nil, nil
	}
	var out []Named
	for _, p := range x.readable(r.Access()) {
		found, err := p.names(ctx, phrases, near)
		if err != nil {
			return nil, fmt.Errorf("look up names: %w", err)
		}
		for _, n := range found {
			ok, err := verifyName(r, &n)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, n)
			}
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Prior > out[j].Prior })
	return out, nil
}

// names looks the phrases up in one partition, unverified.
func (p *partition) names(ctx context.Context, phrases []string, near func(string) bool) ([]Named, error) {
	exact := bleve.NewDisjunctionQuery()
	for _, ph := range phrases {
		exact.AddQuery(aliasQuery(ph))
	}
	found, err := p.nameHits(ctx, exact, len(phrases)*maxNameHits)
	if err != nil {
		return nil, err
	}
	var out []Named
	matched := map[string]bool{}
	for _, n := range found {
		for _, ph := range phrases {
			if slices.Contains(forms(n.Namespace, n.Value), ph) {
				n.Phrase, n.Prior, n.Exact = ph, prior(n.Namespace, n.Value, ph), true
				matched[ph] = true
				out = append(out, n)
			}
		}
	}
	for _, ph := range phrases {
		if matched[ph] || len(ph) < minFuzzyBytes || near == nil || !near(ph) {
			continue
		}
		found, err := p.nearNames(ctx, ph)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

func aliasQuery(phrase string) query.Query {
	q := bleve.NewTermQuery(phrase)
	q.SetField(fieldAlias)
	return q
}

// nearNames finds names that differ from the phrase by one letter.
func (p *partition) nearNames(ctx context.Context, phrase string) ([]Named, error) {
	q := bleve.NewFuzzyQuery(phrase)
	q.SetField(fieldAlias)
	q.SetFuzziness(1)
	q.SetPrefix(1)
	found, err := p.nameHits(ctx, q, maxNameHits)
	if err != nil {
		return nil, err
	}
	out := found[:0]
	for _, n := range found {
		for _, f := range forms(n.Namespace, n.Value) {
			if f != phrase && lex.Near(f, phrase) {
				n.Phrase, n.Prior = phrase, 0.8*prior(n.Namespace, n.Value, f)
				out = append(out, n)
				break
			}
		}
	}
	return out, nil
}

func (p *partition) nameHits(ctx context.Context, q query.Query, size int) ([]Named, error) {
	res, err := p.text.SearchInContext(ctx, bleve.NewSearchRequestOptions(q, size, 0, false))
	if err != nil {
		return nil, err
	}
	var out []Named
	for _, h := range res.Hits {
		parts := strings.Split(h.ID, "\x00")
		if len(parts) != 4 || parts[0] != kindName {
			continue
		}
		id, err := graph.ParseEntityID(parts[3])
		if err != nil {
			continue
		}
		out = append(out, Named{Entity: id, Source: p.source, Namespace: parts[1], Value: parts[2]})
	}
	sort.Slice(out, func(i, j int) bool {
		if out[i].Value != out[j].Value {
			return out[i].Value < out[j].Value
		}
		return out[i].Entity.String() < out[j].Entity.String()
	})
	return out, nil
}

// verifyName checks a name against the store at the reader's version and fills
// in the entity's type.
func verifyName(r *graph.Reader, n *Named) (bool, error) {
	e, err := r.Entity(n.Entity)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	n.Type = e.Type
	switch n.Namespace {
	case NamespaceName, NamespaceTitle:
		for _, c := range e.Claims {
			if c.Value == n.Value && (c.Property == graph.Name || c.Property == graph.Title) {
				return true, nil
			}
		}
		return false, nil
	}
	known, err := r.ByIdentifier(n.Namespace, n.Value)
	return slices.Contains(known, n.Entity), err
}
