package rank

var lexicalWeights = [14]float64{-16.00, -1.67, 5.49, 2.89, 6.28, -0.49, 2.30, 0.64, 5.30, 2.21, -0.00, -2.55, 1.96, -6.07}

var vectorWeights = [17]float64{-4, 2, 1, 1, 1, -1, 0, 1, 0.5, 1.5, 0, -4, 2, -2, 4, 0.5, -2}

// LexicalWeights returns a copy of the coefficients used without vectors.
func LexicalWeights() []float64 { return append([]float64(nil), lexicalWeights[:]...) }

var judgeWeights = [14]float64{-5.98, 1.72, 3.53, 5.54, 0.81, -3.03, 1.35, -0.64, 0.03, -0.35, 1.88, -0.15, 1.65, 0}
