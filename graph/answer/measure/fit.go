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

// List is one question's candidates; Right says which of them are evidence.
type List struct {
	X      [][]float64
	Right  []bool
	Weight float64
}

// FitLists fits weights so that evidence comes before the other candidates of
// its list: the likelihood of a softmax over each list, with a small ridge
// penalty. The first feature, the constant, cannot matter and stays 0.
func FitLists(lists []List, rounds int) []float64 {
	var all []Example
	for _, l := range lists {
		for _, x := range l.X {
			all = append(all, Example{X: x})
		}
	}
	if len(all) == 0 {
		return nil
	}
	n := len(all[0].X)
	mean, dev := spread(all, n)
	w, m, v := make([]float64, n), make([]float64, n), make([]float64, n)
	for t := 1; t <= rounds; t++ {
		grad := make([]float64, n)
		var total float64
		for _, l := range lists {
			total += l.gradient(w, mean, dev, grad)
		}
		for j := 1; j < n; j++ {
			g := grad[j]/total + 1e-3*w[j]
			m[j] = 0.9*m[j] + 0.1*g
			v[j] = 0.999*v[j] + 0.001*g*g
			w[j] -= 0.05 * (m[j] / (1 - math.Pow(0.9, float64(t)))) / (math.Sqrt(v[j]/(1-math.Pow(0.999, float64(t)))) + 1e-8)
		}
	}
	out := make([]float64, n)
	for j := 1; j < n; j++ {
		out[j] = w[j] / dev[j]
	}
	return out
}

// gradient adds the list's gradient and returns its weight, 0 when none of its
// candidates is evidence.
func (l List) gradient(w, mean, dev, grad []float64) float64 {
	p := make([]float64, len(l.X))
	var sum, right float64
	for i, x := range l.X {
		var z float64
		for j := 1; j < len(w); j++ {
			z += w[j] * (x[j] - mean[j]) / dev[j]
		}
		p[i] = math.Exp(z)
		sum += p[i]
		if l.Right[i] {
			right += p[i]
		}
	}
	if right == 0 {
		return 0
	}
	for i, x := range l.X {
		d := p[i] / sum
		if l.Right[i] {
			d -= p[i] / right
		}
		for j := 1; j < len(w); j++ {
			grad[j] += l.Weight * d * (x[j] - mean[j]) / dev[j]
		}
	}
	return l.Weight
}
