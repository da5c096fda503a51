package rank

var lexicalWeights = [12]float64{-4, 3, 1, 1, 1, -1, 0, 1, 0.5, 1, 0, -4}

var vectorWeights = [15]float64{-4, 3, 1, 1, 1, -1, 0, 1, 0.5, 1, 0, -4, 4, 0.5, -2}
