package world

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Dialogue is a conversation: questions in a row, of which some can be understood
// only from those before.
type Dialogue struct {
	Kind  string
	Turns []Turn
}

// Turn is a question of a dialogue and what answers it.
type Turn struct {
	Text    string
	Follows bool     // it leans on the turns before
	Holds   []string // each must stand in the answer
	Not     []string // none may stand in it
	Alone   string   // the same asked in full: it must get the same answer
	Unclear bool     // nobody could say what is meant: no answer is right
}

// talker makes dialogues. It has randomness of its own, so that the questions of
// a seed stay what they were.
type talker struct {
	*World
	rng *rand.Rand
}

// kinds of dialogues, each with the first question, the follow-ups in several
// wordings, and what answers them. A standalone question stands between some.
func (w *World) talk() {
	t := &talker{w, rand.New(rand.NewPCG(w.Seed^0x5bd1e995, 7))}
	files := t.settled()
	for i, f := range files[:min(len(files), 14)] {
		t.before(f, i)
		t.that(f, i)
		t.others(f, i)
		t.author(f, i)
		t.added(f, i)
		t.reason(f, i)
		t.another(f, files[(i+1)%len(files)], i)
		t.since(f, i)
	}
	for i := range 12 {
		t.counts(i)
		t.facts(i)
		t.features(i)
		t.nobody(i)
	}
	for i := 1; i < len(t.Tags); i++ {
		t.releases(i)
	}
}

// settled are living files with three changes or more, by people who differ.
func (t *talker) settled() (out []*File) {
	for _, i := range t.rng.Perm(len(t.Files)) {
		f := t.Files[i]
		n := len(f.Changes)
		if !f.Deleted && n >= 3 && f.Changes[n-1].Author != f.Changes[n-2].Author && f.Changes[n-2].Author != f.Changes[n-3].Author {
			out = append(out, f)
		}
	}
	return out
}

func (t *talker) say(kind string, turns ...Turn) {
	t.Dialogues = append(t.Dialogues, Dialogue{kind, turns})
}

func (t *talker) one(list ...string) string { return list[t.rng.IntN(len(list))] }

func day(c Commit) string { return c.Time.Format("2006-01-02") }

// opening is a question that stands alone, and its answer.
func (t *talker) opening(f *File) Turn {
	return Turn{Text: fmt.Sprintf(t.one("Who last changed %s?", "Who touched %s most recently?", "Whose change to %s is the latest?"), f.Path), Holds: []string{f.Changed.Author.Name}}
}

// aside is a question of its own in the midst of a conversation.
func (t *talker) aside() Turn {
	list := t.Questions
	q := list[t.rng.IntN(len(list))]
	return Turn{Text: q.Wordings[t.rng.IntN(3)]}
}

func (t *talker) before(f *File, i int) {
	n := len(f.Changes)
	second, third := f.Changes[n-2], f.Changes[n-3]
	turns := []Turn{t.opening(f), {
		Text: t.one("and who changed it before that?", "And before that?", "Who changed it before?", "Who made the change before that one?", "Whose was the previous change?",
			"and the one before?", "Who was the previous person to touch it?", "Okay, and who edited it prior to that?", "And who before them?", "who had changed it previously?"),
		Follows: true, Holds: []string{second.Author.Name, day(second)},
	}, {
		Text:    t.one("And before that?", "and who before that?", "And the change before that?", "What about before that?", "and one further back?"),
		Follows: true, Holds: []string{third.Author.Name, day(third)},
	}}
	if i%3 == 0 {
		turns = append(turns, t.aside(), t.aside())
	}
	t.say("before", turns...)
}

func (t *talker) that(f *File, _ int) {
	t.say("that", t.opening(f), Turn{
		Text:    t.one("When was that?", "and when?", "When did that happen?", "On which day was that?", "when did they do that?", "What date was that?", "When exactly?", "And when was it changed?"),
		Follows: true, Holds: []string{day(f.Changed)},
	})
}

func (t *talker) others(f *File, _ int) {
	var rest []string
	for _, c := range f.Changes {
		if name := c.Author.Name; name != f.Changed.Author.Name && !slices.Contains(rest, name) {
			rest = append(rest, name)
		}
	}
	t.say("others", t.opening(f), Turn{
		Text:    t.one("Who else changed it?", "Who else?", "Who else has worked on it?", "and who else touched that file?", "Which other people changed it?", "Has anyone else changed it? Who?", "Who besides them has changed it?"),
		Follows: true, Holds: rest, Not: []string{f.Changed.Author.Name},
	})
}

func (t *talker) author(f *File, _ int) {
	var last Commit
	count := 0
	for _, c := range t.Log {
		if c.Author == f.Changed.Author {
			count++
			if c.Number != f.Changed.Number {
				last = c
			}
		}
	}
	first, _, _ := strings.Cut(f.Changed.Author.Name, " ")
	t.say("author", t.opening(f), Turn{
		Text:    t.one("What else did she change?", "What else did he do?", "What else have they worked on?", "And what else did that person change?", "which other commits did she make?", "What other changes did he make?"),
		Follows: true, Holds: []string{last.Subject},
	}, Turn{
		Text:    t.one("How many commits did she make?", "And how many commits are by him?", "how many commits have they made in total?", "How many commits has "+first+" made?"),
		Follows: true, Holds: []string{fmt.Sprintf("**%d**", count)},
	})
}

func (t *talker) added(f *File, i int) {
	turns := []Turn{t.opening(f), {
		Text:    t.one("When was it added?", "And when was that file first added?", "When did it first appear?", "since when do we have it?", "and when was it created?", "When was it introduced?"),
		Follows: true, Holds: []string{day(f.Added)},
	}, {
		Text:    t.one("And by whom?", "Who added it?", "Who was that?", "and who created it?", "By whom?"),
		Follows: true, Holds: []string{f.Added.Author.Name},
	}}
	if f.InTag != "" {
		turns = append(turns, Turn{
			Text:    t.one("In which release?", "Which release was that in?", "and in which release did it first ship?", "What was the first version to include it?"),
			Follows: true, Holds: []string{f.InTag},
		})
	}
	if i%2 == 0 {
		turns = slices.Insert(turns, 1, t.aside(), t.opening(f))
	}
	t.say("added", turns...)
}

func (t *talker) reason(f *File, _ int) {
	t.say("reason", t.opening(f), Turn{
		Text:    t.one("Why?", "why was that?", "And why did they change it?", "Why was it changed?", "What was the reason?", "What's the reason for that change?", "but why?"),
		Follows: true, Holds: []string{f.Changed.Body},
	})
}

func (t *talker) another(f, g *File, _ int) {
	t.say("another", t.opening(f), Turn{
		Text:    fmt.Sprintf(t.one("And %s?", "What about %s?", "and for %s?", "How about %s?", "And who changed %s last?", "Same for %s?"), g.Path),
		Follows: true, Holds: []string{g.Changed.Author.Name, day(g.Changed)}, Not: []string{},
	}, Turn{
		Text:    t.one("And before that?", "and who changed it before that?", "Who changed it before?"),
		Follows: true, Holds: []string{g.Changes[len(g.Changes)-2].Author.Name},
	})
}

func (t *talker) since(f *File, _ int) {
	t.say("since", Turn{Text: fmt.Sprintf(t.one("When was %s added?", "Who added %s?"), f.Path), Holds: []string{day(f.Added)}}, Turn{
		Text:    t.one("How many commits have touched it since then?", "How often has it been changed since?", "How many times was it changed since then?", "And how many changes have there been to it since then?"),
		Follows: true, Holds: []string{fmt.Sprintf("**%d**", len(f.Changes)-1)},
	})
}

func (t *talker) counts(i int) {
	p, q := t.People[i%len(t.People)], t.People[(i+5)%len(t.People)]
	count := func(who Person, year int) string {
		n := 0
		for _, c := range t.Log {
			if c.Author == who && (year == 0 || c.Time.Year() == year) {
				n++
			}
		}
		return fmt.Sprintf("**%d**", n)
	}
	if i%2 == 0 {
		t.say("person", Turn{Text: "How many commits did " + p.Name + " make?", Holds: []string{count(p, 0)}}, Turn{
			Text:    fmt.Sprintf(t.one("And %s?", "What about %s?", "How about %s?", "and how many did %s make?"), q.Name),
			Follows: true, Holds: []string{count(q, 0)},
		})
		return
	}
	t.say("year", Turn{Text: "How many commits did " + p.Name + " make in 2024?", Holds: []string{count(p, 2024)}}, Turn{
		Text:    t.one("And in 2025?", "What about in 2025?", "and in 2025, how many?", "How many in 2025?"),
		Follows: true, Holds: []string{count(p, 2025)},
	})
}

func (t *talker) facts(i int) {
	a := t.stated[(i*7)%len(t.stated)]
	b := a
	for _, f := range t.stated {
		if f.kind == a.kind && f.component != a.component {
			b = f
		}
	}
	wording := kinds[a.kind].questions[t.rng.IntN(3)]
	first := Turn{Text: fmt.Sprintf(wording, a.component), Holds: []string{a.value}}
	if i%2 == 0 && b.component != a.component {
		t.say("component", first, Turn{
			Text:    fmt.Sprintf(t.one("And the %s?", "What about the %s?", "and for the %s?", "How about the %s?"), b.component),
			Follows: true, Alone: fmt.Sprintf(wording, b.component),
		})
		return
	}
	for _, f := range t.stated {
		if f.component == a.component && f.kind != a.kind {
			full := kinds[f.kind].questions[t.rng.IntN(3)]
			ask := strings.ReplaceAll(full, "the %s", "%s")
			if strings.Count(ask, "%s") == 1 && !strings.Contains(ask, "%s backups") {
				t.say("component", first, Turn{Text: fmt.Sprintf(ask, "it"), Follows: true, Alone: fmt.Sprintf(full, f.component)})
				return
			}
		}
	}
}

func (t *talker) features(i int) {
	f := t.Features[i%len(t.Features)]
	t.say("feature", Turn{Text: "When was " + f.Name + " introduced?", Holds: []string{day(f.Commit)}}, Turn{
		Text:    t.one("Who introduced it?", "And who added it?", "By whom?", "who was that?", "Who built that?"),
		Follows: true, Holds: []string{f.Commit.Author.Name},
	})
}

// nobody has follow-ups of which nobody could say what they mean.
func (t *talker) nobody(i int) {
	a := t.stated[(i*5+3)%len(t.stated)]
	t.say("nobody", Turn{Text: fmt.Sprintf(kinds[a.kind].questions[0], a.component), Holds: []string{a.value}}, Turn{
		Text: t.one("What else did she change?", "And who changed it before that?", "When was that release made?", "How many commits did he make?"), Follows: true, Unclear: true,
	})
}

func (t *talker) releases(i int) {
	this, before := t.Tags[i], t.Tags[i-1]
	t.say("release", Turn{Text: "When was " + this.Name + " released?", Holds: []string{this.Time.Format("2006-01-02")}}, Turn{
		Text:    t.one("And the one before?", "Which release came before that?", "And the release before that?", "What was the previous release?"),
		Follows: true, Holds: []string{before.Name, before.Time.Format("2006-01-02")},
	})
}

// Plain are questions that stand alone though they hold words that could lean on
// something: no conversation may change what they mean.
func (w *World) Plain() []string {
	f, g := w.Files[0], w.Files[1]
	p := w.People[0].Name
	c := w.components[0]
	return []string{
		"Is it documented how to rotate the keys?", "Who was the last person that changed " + f.Path + "?", "When was it that " + f.Path + " was added?",
		"Which commits did " + p + " make before 2024-06-01?", "How long does it take until backups of the " + c + " are deleted?",
		"Which document explains what happens to a backup after it is made?", "What did " + p + " do in that part of 2024 before March 2024?",
		"Who changed " + g.Path + " before 2024-09-01?", "What is the latest release?", "How many people are there?", "How many commits are there?",
		"What does the " + c + " do when its disk is full?", "Where do operators find the logs that they need?", "Who operates the " + c + "?",
		"If a request times out, where is it logged?", "What else is stored in the database of the " + c + "?", "Why are backups of the " + c + " kept?",
		"Who added " + f.Path + ", and when?", "What is the history of " + g.Path + "?", "Which release was the first that contained " + f.Path + "?",
		"Before an upgrade, what should be read?", "How fresh is the data?", "Is this page reviewed every quarter?", "When in doubt, whom does one ask before it is restarted?",
	}
}
