package answer_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/answer/measure"
	"github.com/cloister-os/cloister/graph/answer/rank"
	"github.com/cloister-os/cloister/store"
)

// set is a collection of questions with their evidence, ranked once.
type ranked struct {
	text     string
	question rank.Question
	list     []answer.RankedSentence
	gold     []bool
	fit      bool // of the half that is fitted on
	hidden   string
	set      string
}

// BenchmarkFit fits the coefficients of package rank and prints them with what
// they reach on questions that they were not fitted on. FIT_ROUNDS bounds the
// fitting; FIT_VECTORS=1 fits those for vectors, with the embedder of embed_test.
func BenchmarkFit(b *testing.B) {
	rounds, err := strconv.Atoi(os.Getenv("FIT_ROUNDS"))
	if err != nil {
		rounds = 1500
	}
	all := append(rankXQuAD(b), rankFacts(b)...)
	weights := map[string]float64{}
	for _, q := range all {
		weights[q.set]++
	}
	var lists []measure.List
	for _, q := range all {
		if !q.fit || q.hidden != "" {
			continue
		}
		l := measure.List{Right: q.gold, Weight: 1 / weights[q.set]}
		for _, s := range q.list {
			l.X = append(l.X, features(s))
		}
		lists = append(lists, l)
	}
	say("present: %s", evidence(all, nil))
	if os.Getenv("FIT_SHOW") != "" {
		show(all)
	}
	w := measure.FitLists(lists, rounds)
	say("fitted: %s", evidence(all, w))
	w[0] = constant(all, w)
	say("rank weights %s", literal(w))
	if os.Getenv("FIT_FALSE") != "" {
		for _, q := range all {
			if q.hidden != "" && q.set == "facts" && len(q.list) > 0 {
				if v := rank.Judge(q.question, scoredOf(q))[0]; v.Answers {
					say("F %s -> %s (%s) %.2f %+v", q.text, q.list[0].Text, q.list[0].Native, v.Sure, q.list[0].Features)
				}
			}
		}
	}
	for i := range all {
		rescore(&all[i], w)
	}
	var judge []measure.Example
	for _, q := range all {
		if q.fit && len(q.list) > 0 {
			judge = append(judge, measure.Example{X: rank.JudgeFeatures(scoredOf(q), 0), Right: q.gold[0], Weight: 1 / weights[q.set]})
		}
	}
	jw := measure.Fit(judge, rounds)
	say("judge weights %s", literal(jw))
	for _, set := range []string{"xquad", "facts"} {
		for _, t := range []float64{0.3, 0.4, 0.5, 0.6, 0.7, 0.8} {
			say("%s sure>=%.1f: %s", set, t, answered(all, jw, set, t))
		}
	}
}

// constant is such that half of the evidence that is first scores above one half.
func constant(all []ranked, w []float64) float64 {
	var z []float64
	for _, q := range all {
		if q.fit && q.hidden == "" && len(q.list) > 0 && q.gold[0] {
			z = append(z, dot(w, features(q.list[0])))
		}
	}
	slices.Sort(z)
	return -z[len(z)/4]
}

// say prints whatever the length: a benchmark's log is cut.
func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// show prints the questions whose evidence is not first.
func show(all []ranked) {
	for _, q := range all {
		if q.hidden != "" || q.set != os.Getenv("FIT_SHOW") || len(q.gold) > 0 && q.gold[0] {
			continue
		}
		say("Q %s", q.text)
		for i, s := range q.list {
			if i < 2 || q.gold[i] {
				say("   %v %d %.3f %s %+v", q.gold[i], i, s.Score, s.Text, s.Features)
			}
		}
	}
}

func features(s answer.RankedSentence) []float64 {
	if os.Getenv("FIT_VECTORS") != "" {
		return s.Features.Vectored()
	}
	return s.Features.Lexical()
}

func literal(w []float64) string {
	var b strings.Builder
	for _, x := range w {
		fmt.Fprintf(&b, "%.2f, ", x)
	}
	return strings.TrimSuffix(b.String(), ", ")
}

func scoredOf(q ranked) []rank.Scored {
	out := make([]rank.Scored, len(q.list))
	for i, s := range q.list {
		out[i] = s.Scored
	}
	return out
}

func judged(q ranked) rank.Verdict { return rank.Judge(q.question, scoredOf(q))[0] }

func dot(w, x []float64) (z float64) {
	for i := range w {
		z += w[i] * x[i]
	}
	return z
}

// rescore orders a list by other weights.
func rescore(q *ranked, w []float64) {
	for i := range q.list {
		q.list[i].Score = rank.Logistic(w, features(q.list[i]))
	}
	for i := 1; i < len(q.list); i++ {
		for j := i; j > 0 && q.list[j].Score > q.list[j-1].Score; j-- {
			q.list[j], q.list[j-1] = q.list[j-1], q.list[j]
			q.gold[j], q.gold[j-1] = q.gold[j-1], q.gold[j]
		}
	}
}

// evidence says how often the evidence is first and among the first three, on
// questions that were not fitted on.
func evidence(all []ranked, w []float64) string {
	first, three, n := map[string]int{}, map[string]int{}, map[string]int{}
	for _, q := range all {
		if q.fit || q.hidden != "" {
			continue
		}
		n[q.set]++
		if w != nil {
			rescore(&q, w)
		}
		for i := range min(3, len(q.list)) {
			if q.gold[i] {
				three[q.set]++
				if i == 0 {
					first[q.set]++
				}
			}
		}
	}
	var out []string
	for _, s := range []string{"xquad", "facts"} {
		out = append(out, fmt.Sprintf("%s P@1 %.3f P@3 %.3f of %d", s, float64(first[s])/float64(n[s]), float64(three[s])/float64(n[s]), n[s]))
	}
	return strings.Join(out, ", ")
}

// answered says how many of the answerable are answered at a threshold and how
// precise that is when half the questions cannot be answered.
func answered(all []ranked, w []float64, set string, t float64) string {
	var n, given, right int
	wrong, none := map[string]int{}, map[string]int{}
	for _, q := range all {
		if q.fit || q.set != set {
			continue
		}
		if q.hidden == "" {
			n++
		} else {
			none[q.hidden]++
		}
		if len(q.list) == 0 {
			continue
		}
		f := q.list[0].Features
		if rank.Logistic(w, rank.JudgeFeatures(scoredOf(q), 0)) < t || !rank.MayAnswer(f) {
			continue
		}
		switch {
		case q.hidden != "":
			wrong[q.hidden]++
		case q.gold[0]:
			right++
			given++
		default:
			given++
		}
	}
	s := fmt.Sprintf("coverage %.2f precision %.2f", float64(right)/float64(n), float64(right)/float64(max(given, 1)))
	for _, h := range []string{"sentence", "paragraph"} {
		if none[h] > 0 {
			rate := float64(wrong[h]) / float64(none[h])
			// Half of the questions unanswerable.
			p := float64(right) / float64(n) / (float64(given)/float64(n) + rate)
			s += fmt.Sprintf(", %s hidden: false answers %.2f, precision at half %.2f", h, rate, p)
		}
	}
	return s
}

func rankXQuAD(b testing.TB) []ranked {
	every, err := strconv.Atoi(os.Getenv("FIT_EVERY"))
	if err != nil {
		every = 1
	}
	dir, err := measure.DataDir()
	if err != nil {
		b.Skip(err)
	}
	x, err := measure.LoadXQuAD(dir)
	if err != nil {
		b.Fatal(err)
	}
	files := x.Files()
	var out []ranked
	inSource(b, files, func(ask asker) {
		for i, p := range x.Paragraphs {
			if every > 1 && p.Article%2 == 0 {
				continue // a sample measures; only a whole run fits
			}
			for n, q := range p.Questions {
				if (n+i)%every != 0 {
					continue
				}
				gold := func(native string, start, end int) bool {
					return native == files[i].Path && start <= q.Start && q.Start < end
				}
				one := func(hidden string, hide func(string, int, int) bool) {
					r := ask(q.Text, hide, gold)
					r.fit, r.hidden, r.set = p.Article%2 == 0, hidden, "xquad"
					out = append(out, r)
				}
				one("", nil)
				one("sentence", gold)
				one("paragraph", func(native string, _, _ int) bool { return native == files[i].Path })
			}
		}
	})
	return out
}

func rankFacts(b testing.TB) []ranked {
	var out []ranked
	for seed := range uint64(4) {
		f := measure.NewFacts(seed)
		inSource(b, f.Files, func(ask asker) {
			for _, q := range f.Questions {
				r := ask(q.Text, nil, nil)
				for _, s := range r.list {
					r.gold = append(r.gold, q.File != "" && s.Native == q.File && s.Text == q.Sentence)
				}
				if q.File == "" {
					r.hidden = "sentence"
				}
				r.fit, r.set = seed%2 == 0, "facts"
				out = append(out, r)
			}
		})
	}
	return out
}

type asker func(question string, hide, gold func(native string, start, end int) bool) ranked

// inSource indexes files and lets f ask about them.
func inSource(b testing.TB, files []measure.File, f func(asker)) {
	b.Helper()
	ctx := context.Background()
	w := open(b)
	if err := w.load.Source(ctx, "x", "files"); err != nil {
		b.Fatal(err)
	}
	if err := w.load.Documents(ctx, "x", measure.AsOf(), files...); err != nil {
		b.Fatal(err)
	}
	if err := w.index.WaitFor(ctx, w.load.Store.Applied()); err != nil {
		b.Fatal(err)
	}
	w.waitForVectors(b)
	err := w.load.Store.View(ctx, store.Local, func(s store.Snapshot) error {
		r := graph.NewReader(s, graph.AccessTo("x"), w.load.Blobs)
		f(func(question string, hide, gold func(string, int, int) bool) ranked {
			q, list, err := answer.RankSentences(ctx, w.index, r, question, hide)
			if err != nil {
				b.Fatal(err)
			}
			out := ranked{text: question, question: q, list: list}
			if gold != nil {
				for _, s := range list {
					out.gold = append(out.gold, gold(s.Native, s.Start, s.End))
				}
			}
			return out
		})
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
}
