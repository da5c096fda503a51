package answer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer/typed"
	"github.com/cloister-os/cloister/graph/search/lex"
	"github.com/cloister-os/cloister/store"
)

// ErrQuestion says that a question cannot be worked with; its text is for the
// person who asked.
var ErrQuestion = errors.New("ask a question of 1 to 2000 bytes of text")

// Understand says what a question means: which of the shapes it has, what it is
// about, and at which version it will be answered. It waits until what was
// written before it began can be searched.
func (a *Answerer) Understand(ctx context.Context, access graph.Access, q Question) (Plan, error) {
	return a.Follow(ctx, access, q, nil)
}

// Follow is Understand for a question in a conversation. Words that stand for
// what earlier turns named or found, "it", "she", "before that", are resolved
// against them, as far as the asker may read that now; a question without such
// words is understood as if it stood alone. What cannot be resolved makes a plan
// of the shape Unresolved, which says what is missing. earlier may be nil.
func (a *Answerer) Follow(ctx context.Context, access graph.Access, q Question, earlier Earlier) (Plan, error) {
	q.Text = strings.TrimSpace(strings.Join(strings.Fields(strings.ToValidUTF8(q.Text, "")), " "))
	if q.Text == "" || len(q.Text) > MaxQuestionBytes {
		return Plan{}, ErrQuestion
	}
	zone, err := time.LoadLocation(q.Zone)
	if err != nil {
		return Plan{}, fmt.Errorf("time zone %q is not known: %w", q.Zone, err)
	}
	p := Plan{Question: q, Version: q.Version, Shape: ByText, Search: q.Text}
	if p.Version == 0 {
		err := a.view(ctx, access, 0, func(r *graph.Reader, _ store.Snapshot) error {
			p.Version = r.Version()
			return nil
		})
		if err != nil {
			return Plan{}, err
		}
	}
	if err := a.cfg.Index.WaitFor(ctx, p.Version); err != nil {
		return Plan{}, err
	}
	var l leaning
	err = a.view(ctx, access, p.Version, func(r *graph.Reader, s store.Snapshot) (err error) {
		p.Time = s.Time()
		l, err = a.understand(ctx, r, &p, q.Text, s.Time().In(zone))
		return err
	})
	if err == nil && earlier != nil && l.any() {
		p, err = a.resolved(ctx, access, p, l, earlier, zone)
	}
	if err != nil {
		return Plan{}, fmt.Errorf("understand the question: %w", err)
	}
	p.Understood = p.describe()
	return p, nil
}

// reading is a question with all that is known about its words.
type reading struct {
	text     string
	mentions []mention
	masked   []bool // tokens that belong to a mention or a time
	window   Window
	from, to int // where the words of the window stand
	meaning
}

// understand reads a text as a question that stands alone, and says what in it
// does not.
func (a *Answerer) understand(ctx context.Context, r *graph.Reader, p *Plan, text string, now time.Time) (leaning, error) {
	rd, err := a.read(ctx, r, text, now)
	if err != nil {
		return leaning{}, err
	}
	p.Missing = rd.missing()
	if err := a.shape(ctx, r, p, rd, rd.window); err != nil {
		return leaning{}, err
	}
	if p.Shape != ByText {
		p.Window = rd.window
	}
	return rd.leans(rd.from, rd.to), nil
}

// read finds what the words of a question mean.
func (a *Answerer) read(ctx context.Context, r *graph.Reader, text string, now time.Time) (reading, error) {
	return a.readWith(ctx, r, text, now, nil)
}

// readWith is read for a text of which it is known what some of it names.
func (a *Answerer) readWith(ctx context.Context, r *graph.Reader, text string, now time.Time, known []mention) (reading, error) {
	mentions, err := a.link(ctx, r, text)
	if err != nil {
		return reading{}, err
	}
	if len(known) > 0 {
		mentions = slices.DeleteFunc(mentions, func(m mention) bool { return covered(known, m) })
		mentions = append(mentions, known...)
		sort.Slice(mentions, func(i, j int) bool { return mentions[i].start < mentions[j].start })
	}
	window, from, to := windowOf(text, now)
	if covered(mentions, mention{start: from, end: to}) {
		window, from, to = Window{}, 0, 0
	}
	rd := reading{text: text, mentions: mentions, window: window, from: from, to: to}
	tokens := lex.Tokens(text)
	rd.masked = make([]bool, len(tokens))
	for i, t := range tokens {
		rd.masked[i] = t.Start < to && from < t.End
		for _, m := range mentions {
			if t.Start < m.end && m.start < t.End {
				rd.masked[i] = true
			}
		}
	}
	rd.meaning = mean(tokens, rd.masked)
	return rd, nil
}

// missing lists what looks like the name of a file or a release and is none
// that may be read.
func (rd reading) missing() []string {
	var out []string
	for _, s := range typed.Spans(rd.text) {
		if s.Kind != typed.Path && s.Kind != typed.Version || covered(linkedOnly(rd.mentions), mention{start: s.Start, end: s.End}) {
			continue
		}
		out = append(out, rd.text[s.Start:s.End])
	}
	return out
}

func linkedOnly(list []mention) []mention {
	var out []mention
	for _, m := range list {
		if len(m.found) > 0 {
			out = append(out, m)
		}
	}
	return out
}

// first returns the first mention of one of the types.
func (rd reading) first(types ...graph.Type) (mention, bool) {
	for _, m := range rd.mentions {
		for _, t := range types {
			if m.kind() == t {
				return m, true
			}
		}
	}
	return mention{}, false
}

func (m mention) subject() Subject {
	n := m.found[0]
	return Subject{Entity: n.Entity, Type: n.Type, Source: n.Source, Name: n.Value, Exact: n.Exact}
}

// others are what a mention could mean as well.
func (m mention) others() []Subject {
	var out []Subject
	for _, n := range m.found[1:] {
		if n.Type == m.found[0].Type && n.Value != m.found[0].Value {
			out = append(out, Subject{Entity: n.Entity, Type: n.Type, Source: n.Source, Name: n.Value, Exact: n.Exact})
		}
	}
	return out
}

// describe says in words what was understood.
func (p Plan) describe() string {
	about := p.Subject.Name
	if p.Subject.Phrase != "" {
		about = "“" + p.Subject.Phrase + "”"
	}
	var s string
	switch p.Shape {
	case Unresolved:
		return "a question that goes on from something this conversation does not have"
	case Why:
		return "what the commit of " + p.Place.Date + " gives as its reason"
	case LastChange:
		s = "who last changed " + about + ", and when"
		if p.Place.Side != "" {
			s = "who changed " + about
		}
	case FirstAdded:
		s = "when " + about + " was added, by whom, and in which release"
	case Removed:
		s = "when " + about + " was removed, and by whom"
	case WhichDocument:
		s = "which document explains “" + p.Search + "”"
	case History:
		s = "the history of " + about
	case CountCommits:
		s = "how many commits"
		if about != "" {
			s += " concern " + about
		}
	case CountPeople:
		s = "how many people worked on " + about
	case Contributors:
		s = "who worked on " + about
	case PersonDid:
		s = "what " + about + " did"
	case ReleaseOf:
		if s = "the latest release"; about != "" {
			s = "when release " + about + " was made"
		} else if p.Place.Side != "" {
			s = "the release"
		}
	case CountThings:
		s = "how many " + p.Thing + " there are"
	case HowFresh:
		s = "how fresh the sources are"
	default:
		return "what the documents say about: " + p.Search
	}
	if p.By.Name != "" {
		s += " by " + p.By.Name
	}
	s += p.Place.words()
	if len(p.Besides) > 0 {
		s += ", besides " + names(p.Besides)
	}
	if p.Window.Text != "" {
		s += ", " + strings.TrimSpace(p.Window.Text)
	}
	return s
}
