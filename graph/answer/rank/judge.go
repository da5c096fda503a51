package rank

// Verdict says how far a sentence answers the question.
type Verdict struct {
	Sure    float64 // estimated probability that it answers
	Answers bool    // it may be given as the answer
	Close   bool    // it may be shown as a passage that comes close
}

// What a sentence must reach, found on questions whose evidence was hidden; see
// weights.go.
const (
	minSure     = 0.6
	minCovered  = 0.5  // share of the question held by passage and headings
	minNamed    = 0.6  // share of the question's attested word pairs
	minRest     = 0.62 // just above what related words alone can reach
	minKind     = 0.5  // just above a number that counts something else
	minCloseFor = 0.25 // share of the question, for a passage that is shown as close
	minTopic    = 0.62 // share of a topic held by the passage and headings that explain it
)

// Judge says of each ranked sentence how far it answers, in the order given.
// The first one's lead over the second counts: two that are equally good are
// often both beside the point.
func Judge(q Question, scored []Scored) []Verdict {
	out := make([]Verdict, len(scored))
	for i, s := range scored {
		f := s.Features
		weights := judgeWeights[:]
		if f.Embedded {
			weights = judgeVectorWeights[:]
		}
		v := Verdict{Sure: Logistic(weights, JudgeFeatures(scored, i))}
		v.Answers = v.Sure >= minSure && MayAnswer(f) && len(q.Terms) > 0
		v.Close = v.Answers || f.Passage >= minCloseFor
		out[i] = v
	}
	return out
}

// JudgeFeatures are what Sure is computed from, in the order of judgeWeights.
func JudgeFeatures(scored []Scored, i int) []float64 {
	f := scored[i].Features
	lead := scored[i].Score
	for j, s := range scored {
		if j != i {
			lead = scored[i].Score - s.Score
			break
		}
	}
	return []float64{1, scored[i].Score, lead, f.Head, f.Near, f.Passage, f.Missing, f.Nowhere, f.Bigrams, f.Kind, f.Named, f.Sentence, f.Untitled, f.Cosine}
}

// Topic is how well a sentence's section explains a topic that is all of the
// question.
func (f Features) Topic() float64 {
	return 0.35*f.Passage + 0.4*f.Title + 0.15*f.Head + 0.1*f.Bigrams + 0.1*f.Cosine
}

// JudgeTopic says whether the section of a sentence explains the topic.
func JudgeTopic(s Scored) Verdict {
	f := s.Features
	v := Verdict{Sure: f.Topic()}
	v.Answers = f.Passage >= minTopic && f.Exact
	v.Close = v.Answers || f.Passage >= minCloseFor
	return v
}

// MayAnswer says whether a sentence can be an answer at all: enough of the
// question is in its passage and headings, with every number and identifier; it
// is about the thing named; what is asked about that thing is said in more than
// related words; and something of the kind asked for is in it.
func MayAnswer(f Features) bool {
	return f.Passage >= minCovered && f.Exact && f.Named >= minNamed && f.Rest >= minRest && f.Kind >= minKind
}
