package answer

import (
	"context"
	"regexp"
	"sort"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/graph/search/lex"
)

// Bounds of linking.
const (
	maxNameWords  = 6    // of a name, parted by blanks
	maxWords      = 120  // of a question that are looked at
	sureName      = 0.95 // at least this much of a path or tag must be named
	nearlyAsGood  = 0.8  // a candidate this close to the best makes a name ambiguous
	maxCandidates = 16
	minSHA        = 7
)

// mention is a stretch of the question that names something, or is in quotes.
type mention struct {
	start, end int
	quoted     bool
	text       string // without quotes
	found      []search.Named
}

func (m mention) kind() graph.Type {
	if len(m.found) == 0 {
		return ""
	}
	return m.found[0].Type
}

// word is a stretch between blanks with outer punctuation taken off.
type word struct{ start, end int }

var quoteRule = regexp.MustCompile("\"([^\"]{1,200})\"|“([^”]{1,200})”|«([^»]{1,200})»|‘([^’]{1,200})’|`([^`]{1,200})`|(?:^|[\\s(])'([^']{2,200})'(?:$|[\\s?.,!)])")

// link finds what the question names. Longer names win over shorter ones, whole
// names over parts.
func (a *Answerer) link(ctx context.Context, r *graph.Reader, text string) ([]mention, error) {
	out := quoted(text)
	words := wordsOf(text)
	phrases := map[string]bool{} // normalised, and whether it may be misspelt
	for _, m := range out {
		phrases[lex.Normalize(m.text)] = true
	}
	for n := 1; n <= maxNameWords; n++ {
		for i := 0; i+n <= len(words); i++ {
			raw := text[words[i].start:words[i+n-1].end]
			if p := lex.Normalize(raw); p != "" {
				phrases[p] = phrases[p] || looksLikePath(raw) || looksLikeName(raw)
			}
		}
	}
	list := make([]string, 0, len(phrases))
	for p := range phrases {
		if !stopOnly(p) {
			list = append(list, p)
		}
	}
	// Longest first: what is cut off by the index's bound is the least telling.
	sort.Slice(list, func(i, j int) bool {
		if len(list[i]) != len(list[j]) {
			return len(list[i]) > len(list[j])
		}
		return list[i] < list[j]
	})
	found, err := a.cfg.Index.Names(ctx, r, list, func(phrase string) bool { return phrases[phrase] })
	if err != nil {
		return nil, err
	}
	by := map[string][]search.Named{}
	for _, f := range found {
		by[f.Phrase] = append(by[f.Phrase], f)
	}
	for i := range out {
		out[i].found = best(acceptable(by[lex.Normalize(out[i].text)], out[i].text, true))
	}
	out = linkWords(out, by, text, words)
	out, err = linkCommits(r, out, text, words)
	sort.Slice(out, func(i, j int) bool { return out[i].start < out[j].start })
	return out, err
}

func linkWords(out []mention, by map[string][]search.Named, text string, words []word) []mention {
	for n := min(maxNameWords, len(words)); n >= 1; n-- {
		for i := 0; i+n <= len(words); i++ {
			m := mention{start: words[i].start, end: words[i+n-1].end}
			if covered(out, m) {
				continue
			}
			m.text = text[m.start:m.end]
			m.found = best(acceptable(by[lex.Normalize(m.text)], m.text, false))
			if len(m.found) > 0 {
				out = append(out, m)
			}
		}
	}
	return out
}

// linkCommits finds abbreviated hashes.
func linkCommits(r *graph.Reader, out []mention, text string, words []word) ([]mention, error) {
	for _, w := range words {
		m := mention{start: w.start, end: w.end, text: text[w.start:w.end]}
		if covered(out, m) || !shaRule.MatchString(m.text) || !strings.ContainsAny(m.text, "0123456789") {
			continue
		}
		ids, err := r.ByIdentifierPrefix(graph.NamespaceSHA, strings.ToLower(m.text), 2)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			m.found = append(m.found, search.Named{Entity: id, Type: graph.Commit, Value: m.text, Prior: 1, Exact: true})
		}
		if len(ids) > 0 {
			out = append(out, m)
		}
	}
	return out, nil
}

var shaRule = regexp.MustCompile(`(?i)^[0-9a-f]{7,40}$`)

func covered(list []mention, m mention) bool {
	for _, o := range list {
		if m.start < o.end && o.start < m.end {
			return true
		}
	}
	return false
}

func quoted(text string) []mention {
	var out []mention
	for _, m := range quoteRule.FindAllStringSubmatchIndex(text, -1) {
		for g := 2; g+1 < len(m); g += 2 {
			if m[g] >= 0 {
				out = append(out, mention{start: m[g], end: m[g+1], quoted: true, text: text[m[g]:m[g+1]]})
			}
		}
	}
	return out
}

func wordsOf(text string) []word {
	var out []word
	start := -1
	flush := func(end int) {
		if start >= 0 {
			if w, ok := trimWord(text, start, end); ok && len(out) < maxWords {
				out = append(out, w)
			}
		}
		start = -1
	}
	for i, r := range text {
		if unicode.IsSpace(r) {
			flush(i)
		} else if start < 0 {
			start = i
		}
	}
	flush(len(text))
	return out
}

// trimWord takes punctuation off both ends, and a possessive off the end.
func trimWord(text string, start, end int) (word, bool) {
	edge := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }
	s := strings.TrimRightFunc(text[start:end], func(r rune) bool { return edge(r) && r != '/' && r != '_' })
	s = strings.TrimSuffix(strings.TrimSuffix(s, "'s"), "’s")
	t := strings.TrimLeftFunc(s, func(r rune) bool { return edge(r) && r != '.' && r != '/' && r != '_' && r != '@' })
	start += len(s) - len(t)
	return word{start, start + len(t)}, t != ""
}

func stopOnly(phrase string) bool {
	for _, w := range strings.Fields(phrase) {
		if !lex.IsStop(w) {
			return false
		}
	}
	return true
}

// acceptable drops candidates that the words hardly mean: a part of a path that
// is an ordinary word, a first name that is not capitalised.
func acceptable(list []search.Named, text string, inQuotes bool) []search.Named {
	var out []search.Named
	for _, n := range list {
		ok := false
		switch n.Type {
		case graph.File, graph.Document:
			ok = n.Namespace == graph.NamespacePath && (looksLikePath(text) && (n.Prior >= sureName || !n.Exact) || inQuotes && n.Prior >= 0.7)
		case graph.Tag:
			ok = n.Exact && (n.Prior == 1 && (inQuotes || strings.ContainsAny(text, "0123456789")) || n.Prior >= sureName && strings.Contains(text, "."))
		case graph.Person:
			r, _ := utf8.DecodeRuneInString(text)
			full := n.Prior == 1 || strings.Contains(text, "@")
			ok = full || n.Exact && unicode.IsUpper(r) && !lex.IsStop(lex.Fold(text)) || !n.Exact && n.Prior >= 0.8 && strings.Contains(text, " ")
		case graph.Repository:
			ok = n.Exact && n.Prior == 1
		}
		if ok {
			out = append(out, n)
		}
	}
	return out
}

func looksLikePath(text string) bool {
	for _, s := range typed.Spans(text) {
		if s.Kind == typed.Path {
			return true
		}
	}
	return strings.ContainsAny(text, "/_") || strings.Contains(text, ".") || isBareFile(text)
}

// looksLikeName reports whether a text is several capitalised words.
func looksLikeName(text string) bool {
	words := strings.Fields(text)
	for _, w := range words {
		if r, _ := utf8.DecodeRuneInString(w); !unicode.IsUpper(r) {
			return false
		}
	}
	return len(words) > 1
}

// isBareFile knows files that have no extension.
func isBareFile(text string) bool {
	switch strings.ToUpper(text) {
	case "README", "LICENSE", "MAKEFILE", "DOCKERFILE", "CHANGELOG", "NOTICE", "CONTRIBUTING", "AUTHORS", "INSTALL":
		return true
	}
	return false
}

// best keeps the candidates that are nearly as good as the first, best first: a
// file before a document of the same path, for history is known of files.
func best(list []search.Named) []search.Named {
	seen := map[graph.EntityID]bool{}
	var out []search.Named
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i], list[j]
		if a.Exact != b.Exact {
			return a.Exact
		}
		if a.Prior != b.Prior {
			return a.Prior > b.Prior
		}
		if (a.Type == graph.Document) != (b.Type == graph.Document) {
			return b.Type == graph.Document
		}
		return a.Value < b.Value
	})
	for _, n := range list {
		if seen[n.Entity] || len(out) == maxCandidates {
			continue
		}
		if len(out) > 0 && (n.Prior < nearlyAsGood*out[0].Prior || n.Exact != out[0].Exact || out[0].Prior == 1 && n.Prior < 1) {
			break
		}
		seen[n.Entity] = true
		out = append(out, n)
	}
	return out
}
