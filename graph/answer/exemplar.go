package answer

import (
	"context"
	"math"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"
)

// exemplars are questions about a file, masked as FILE, for each shape. They are
// asked when a question names a file but its words carry no meaning that concept
// knows: the nearest exemplars then say what it asks. ByText holds questions
// that no history answers.
var exemplars = map[Shape][]string{
	LastChange: {
		"Who last changed FILE?", "Who touched FILE most recently?", "Who is to blame for the present state of FILE?",
		"Whose fingers were in FILE last?", "Who was the latest person in FILE?", "When did somebody last lay hands on FILE?",
		"Who had a go at FILE recently?", "Which colleague do I ask about the newest edit of FILE?", "Who messed with FILE just now?",
		"Who is the most recent editor of FILE?",
	},
	FirstAdded: {
		"When was FILE added?", "Who created FILE?", "In which release did FILE first appear?", "How old is FILE?", "Where does FILE come from originally?",
		"Who is the father of FILE?", "Since which version is FILE there?", "Who brought FILE into the project?", "What is the birthday of FILE?",
		"Who came up with FILE?",
	},
	Removed: {
		"When was FILE deleted?", "Who got rid of FILE?", "Why is FILE no longer there?", "Who threw FILE away?", "When did FILE vanish?", "What became of FILE?",
	},
	History: {
		"What is the history of FILE?", "Show me what was done to FILE over time.", "How did FILE develop?", "List the commits of FILE.", "What has happened in FILE?",
		"Walk me through the past of FILE.",
	},
	Contributors: {
		"Who worked on FILE?", "Who knows FILE?", "Which people have a share in FILE?", "Who are the authors of FILE?", "Who has experience with FILE?",
	},
	CountCommits: {
		"How many times was FILE changed?", "How many commits touch FILE?", "How busy is FILE?", "How frequently does FILE get edits?",
	},
	ByText: {
		"What does FILE do?", "How do I run FILE?", "What is in FILE?", "Why is FILE so large?", "How is FILE configured?", "Which port does FILE set?",
		"What does FILE say about limits?", "Where is FILE used?", "Can I delete FILE safely?", "How do I read FILE?",
	},
}

// Bounds of reading by exemplars.
const (
	exemplarLead    = 0.10 // the best shape must lead by this much
	exemplarTimeout = 3 * time.Second
)

// nearestShapes keeps the exemplars' vectors for one model.
type nearestShapes struct {
	mu      sync.Mutex // guards all below
	model   string
	vectors map[Shape][][]float32
}

// byExemplars returns the shape of the exemplars nearest to a masked question,
// or ByText when none leads, or when there is no embedder or it fails.
func (a *Answerer) byExemplars(ctx context.Context, masked string) Shape {
	if a.cfg.Embed == nil || a.cfg.Embed.Model() == "" {
		return ByText
	}
	ctx, cancel := context.WithTimeout(ctx, exemplarTimeout)
	defer cancel()
	known, err := a.near.load(ctx, a)
	if err == nil {
		var got [][]float32
		if got, err = a.cfg.Embed.Embed(ctx, []string{masked}); err == nil && len(got) == 1 {
			return leading(known, got[0])
		}
	}
	a.log.Warn("question not compared with exemplars", "error", err)
	return ByText
}

func (n *nearestShapes) load(ctx context.Context, a *Answerer) (map[Shape][][]float32, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.model == a.cfg.Embed.Model() && n.vectors != nil {
		return n.vectors, nil
	}
	vectors := map[Shape][][]float32{}
	for shape, texts := range exemplars {
		got, err := a.cfg.Embed.Embed(ctx, texts)
		if err != nil {
			return nil, err
		}
		vectors[shape] = got
	}
	n.model, n.vectors = a.cfg.Embed.Model(), vectors
	return vectors, nil
}

// leading is the shape with the best score, .7 of the nearest exemplar and .3 of
// the mean of the three nearest, if it leads the second.
func leading(known map[Shape][][]float32, asked []float32) Shape {
	type scored struct {
		shape Shape
		score float64
	}
	var all []scored
	for shape, vectors := range known {
		var near []float64
		for _, v := range vectors {
			near = append(near, cosine(v, asked))
		}
		slices.SortFunc(near, func(a, b float64) int {
			switch {
			case a > b:
				return -1
			case a < b:
				return 1
			}
			return 0
		})
		if len(near) < 3 {
			continue
		}
		all = append(all, scored{shape, 0.7*near[0] + 0.1*(near[0]+near[1]+near[2])})
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].score != all[j].score {
			return all[i].score > all[j].score
		}
		return all[i].shape < all[j].shape
	})
	if len(all) < 2 || all[0].score-all[1].score < exemplarLead {
		return ByText
	}
	return all[0].shape
}

func cosine(a, b []float32) float64 {
	if len(a) != len(b) {
		return 0
	}
	var dot, na, nb float64
	for i := range a {
		dot += float64(a[i]) * float64(b[i])
		na += float64(a[i]) * float64(a[i])
		nb += float64(b[i]) * float64(b[i])
	}
	if na == 0 || nb == 0 {
		return 0
	}
	return dot / math.Sqrt(na*nb)
}

// mask puts a word for a mention, so that questions are compared by how they
// ask and not by what they name.
func mask(text string, m mention, word string) string {
	return strings.TrimSpace(text[:m.start] + word + text[m.end:])
}
