package measure

import "math"

// Example is one labelled observation.
type Example struct {
	X      []float64
	Right  bool
	Weight float64
}

// Fit fits logistic weights by gradient descent with a small ridge penalty. The
// first feature is taken for the constant and is not penalised.
func Fit(examples []Example, rounds int) []float64 {
	if len(examples) == 0 {
		return nil
	}
	n := len(examples[0].X)
	mean, dev := spread(examples, n)
	w, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
	var total float64
	for _, e := range examples {
		total += e.Weight
	}
	for t := 1; t <= rounds; t++ {
		grad := make([]float64, n)
		for _, e := range examples {
			z := w[0]
			for j := 1; j < n; j++ {
				z += w[j] * (e.X[j] - mean[j]) / dev[j]
			}
			d := e.Weight * (1/(1+math.Exp(-z)) - truth(e.Right))
			grad[0] += d
			for j := 1; j < n; j++ {
				grad[j] += d * (e.X[j] - mean[j]) / dev[j]
			}
		}
		for j := range w {
			g := grad[j] / total
			if j > 0 {
				g += 1e-4 * w[j]
			}
			m[j] = 0.9*m[j] + 0.1*g
			v[j] = 0.999*v[j] + 0.001*g*g
			w[j] -= 0.05 * (m[j] / (1 - math.Pow(0.9, float64(t)))) / (math.Sqrt(v[j]/(1-math.Pow(0.999, float64(t)))) + 1e-8)
		}
	}
	out := make([]float64, n)
	out[0] = w[0]
	for j := 1; j < n; j++ {
		out[j] = w[j] / dev[j]
		out[0] -= out[j] * mean[j]
	}
	return out
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func spread(examples []Example, n int) (mean, dev []float64) {
	mean, dev = make([]float64, n), make([]float64, n)
	for _, e := range examples {
		for j, x := range e.X {
			mean[j] += x / float64(len(examples))
		}
	}
	for _, e := range examples {
		for j, x := range e.X {
			dev[j] += (x - mean[j]) * (x - mean[j]) / float64(len(examples))
		}
	}
	for j := range dev {
		dev[j] = math.Max(math.Sqrt(dev[j]), 1e-6)
	}
	return mean, dev
}
