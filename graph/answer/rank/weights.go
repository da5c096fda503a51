package rank

var lexicalWeights = [12]float64{-4, 3, 1, 1, 1, -1, 0, 1, 0.5, 1, 0, -4}

var vectorWeights = [15]float64{-4, 3, 1, 1, 1, -1, 0, 1, 0.5, 1, 0, -4, 4, 0.5, -2}

// LexicalWeights returns a copy of the coefficients used without vectors.
func LexicalWeights() []float64 { return append([]float64(nil), lexicalWeights[:]...) }

var judgeWeights = [11]float64{-7, 3, 1, 2, 1, 4, -1, -1, 1, 1, 1}
