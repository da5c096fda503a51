package vector

import (
	"math"
	"sort"
)

// Hit is a vector near the query.
type Hit struct {
	Group  string
	Index  int // of the vector in its group
	Cosine float64
}

// Search returns the k live vectors nearest to the query, nearest first; equal
// ones are in the order of group and index. Groups that keep refuses are passed
// over before anything is ranked; a nil keep refuses none.
func (f *File) Search(query []float32, k int, keep func(group string) bool) []Hit {
	unit, ok := normalize(query, f.dims)
	if !ok || k < 1 {
		return nil
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	top := make([]Hit, 0, k+1)
	for g, s := range f.groups {
		if keep != nil && !keep(g) {
			continue
		}
		for i := range s.count {
			c := f.cosine(s.first+i, unit)
			if len(top) == k && c < top[k-1].Cosine {
				continue
			}
			top = insert(top, Hit{g, i, c}, k)
		}
	}
	return top
}

// Cosines returns the cosine of each vector of a group with the query; ok is
// false when the group is not there.
func (f *File) Cosines(group string, query []float32) (cosines []float64, ok bool) {
	unit, ok := normalize(query, f.dims)
	if !ok {
		return nil, false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	s, ok := f.groups[group]
	if !ok {
		return nil, false
	}
	cosines = make([]float64, s.count)
	for i := range cosines {
		cosines[i] = f.cosine(s.first+i, unit)
	}
	return cosines, true
}

func (f *File) cosine(row int, unit []float32) float64 {
	r := f.rows[row*f.dims : (row+1)*f.dims]
	unit = unit[:len(r)]
	var a, b float32
	i := 0
	for ; i+1 < len(r); i += 2 {
		a += float32(r[i]) * unit[i]
		b += float32(r[i+1]) * unit[i+1]
	}
	if i < len(r) {
		a += float32(r[i]) * unit[i]
	}
	return float64((a + b) * f.scales[row])
}

// insert keeps top sorted and at most k long.
func insert(top []Hit, h Hit, k int) []Hit {
	at := sort.Search(len(top), func(i int) bool { return less(h, top[i]) })
	if at == k {
		return top
	}
	top = append(top, Hit{})
	copy(top[at+1:], top[at:])
	top[at] = h
	return top[:min(len(top), k)]
}

func less(a, b Hit) bool {
	if a.Cosine != b.Cosine {
		return a.Cosine > b.Cosine
	}
	if a.Group != b.Group {
		return a.Group < b.Group
	}
	return a.Index < b.Index
}

// quantize appends a vector as int8 with the largest component at ±127, and
// returns the factor that makes dot products with unit vectors cosines.
func quantize(rows []int8, v []float32) ([]int8, float32) {
	var largest, sum float64
	for _, x := range v {
		largest = math.Max(largest, math.Abs(float64(x)))
		sum += float64(x) * float64(x)
	}
	if largest == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return append(rows, make([]int8, len(v))...), 0
	}
	for _, x := range v {
		rows = append(rows, int8(math.Round(float64(x)/largest*127)))
	}
	return rows, float32(largest / 127 / math.Sqrt(sum))
}

func normalize(v []float32, dims int) ([]float32, bool) {
	if len(v) != dims {
		return nil, false
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil, false
	}
	n := float32(1 / math.Sqrt(sum))
	out := make([]float32, dims)
	for i, x := range v {
		out[i] = x * n
	}
	return out, true
}
