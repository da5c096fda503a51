package rank

import "math"

// Features is what is known of one candidate. All shares are in [0,1].
type Features struct {
	Sentence float64 // idf-coverage of the question by the sentence
	Head     float64 // by sentence and headings
	Near     float64 // by sentence, headings and the sentence before
	Passage  float64 // by passage and headings
	Missing  float64 // rarest term missing from sentence and headings
	Nowhere  float64 // rarest term missing from the whole passage
	Rest     float64 // by the sentence, of the terms that the headings do not hold
	Title    float64 // by title and headings alone
	Untitled float64 // how far Title is behind the best candidate's
	Named    float64 // share of the question's attested word pairs in sentence, headings, or the sentence before
	Bigrams  float64
	Focus    float64
	Kind     float64 // a span of the asked kind is present
	Length   float64 // log of 1 + words
	Behind   float64 // how far Near is behind the best candidate's
	Cosine   float64
	Nearby   float64
	Short    float64 // how far Cosine is behind the best candidate's
	Embedded bool
	Exact    bool // holds every number and identifier of the question
}

// relate fills the features that compare a candidate with the best one.
func relate(all []Scored) {
	var near, cosine float64
	for _, s := range all {
		near = math.Max(near, s.Features.Near)
		cosine = math.Max(cosine, s.Features.Cosine)
	}
	for i := range all {
		f := &all[i].Features
		f.Behind = near - f.Near
		if f.Embedded {
			f.Short = cosine - f.Cosine
		}
	}
}

// Lexical are the features used without vectors, in the order of lexicalWeights.
func (f Features) Lexical() []float64 {
	return []float64{1, f.Sentence, f.Head, f.Near, f.Passage, f.Missing, f.Nowhere, f.Bigrams, f.Focus, f.Kind, f.Length, f.Behind, f.Named, f.Untitled}
}

// Vectored are the features used with vectors, in the order of vectorWeights.
func (f Features) Vectored() []float64 { return append(f.Lexical(), f.Cosine, f.Nearby, f.Short) }

func (f Features) score() float64 {
	if f.Embedded {
		return Logistic(vectorWeights[:], f.Vectored())
	}
	return Logistic(lexicalWeights[:], f.Lexical())
}

// Logistic is the logistic function of the weighted sum.
func Logistic(weights, x []float64) float64 {
	var z float64
	for i, w := range weights {
		z += w * x[i]
	}
	return 1 / (1 + math.Exp(-z))
}
