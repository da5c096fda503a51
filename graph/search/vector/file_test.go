package vector

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func vectors(t *rapid.T, label string, dims int) [][]float32 {
	n := rapid.IntRange(1, 5).Draw(t, label)
	out := make([][]float32, n)
	for i := range out {
		out[i] = make([]float32, dims)
		for j := range out[i] {
			out[i][j] = float32(rapid.IntRange(-100, 100).Draw(t, "x"))
		}
	}
	return out
}

func exactCosine(a, b []float32) float64 {
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

// Whatever is put, dropped and reopened, Search finds what an exact search over
// the live vectors finds, within what int8 can tell apart.
func TestSearchFindsTheNearestOfWhatIsLive(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		const dims = 8
		path := filepath.Join(dir, "v")
		defer os.Remove(path)
		f, err := Open(path, "m", dims, fixed(1))
		if err != nil {
			t.Fatal(err)
		}
		live := map[string][][]float32{}
		for i := range rapid.IntRange(1, 12).Draw(t, "steps") {
			g := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "group")
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0:
				delete(live, g)
				err = f.Drop([]string{g}, uint64(i))
			case 1:
				f.Close()
				f, err = Open(path, "m", dims, fixed(1))
			default:
				live[g] = vectors(t, "n", dims)
				err = f.Put(g, live[g], uint64(i))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		defer f.Close()
		query := vectors(t, "query", dims)[0]
		var want []float64
		for _, vs := range live {
			for _, v := range vs {
				want = append(want, exactCosine(v, query))
			}
		}
		slices.SortFunc(want, func(a, b float64) int {
			if a > b {
				return -1
			}
			return 1
		})
		got := f.Search(query, 3, nil)
		if exactCosine(query, query) == 0 {
			return
		}
		if len(got) != min(3, len(want)) || f.Count() != len(want) {
			t.Fatalf("%d hits of %d vectors, want %d of %d", len(got), f.Count(), min(3, len(want)), len(want))
		}
		for i, h := range got {
			if math.Abs(h.Cosine-want[i]) > 0.03 {
				t.Errorf("hit %d has cosine %.3f, want %.3f", i, h.Cosine, want[i])
			}
		}
	})
}

func TestKeepIsAskedBeforeRanking(t *testing.T) {
	f, err := Open(filepath.Join(t.TempDir(), "v"), "m", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(f.Put("near", [][]float32{{1, 0}}, 1), f.Put("far", [][]float32{{0, 1}}, 2)); err != nil {
		t.Fatal(err)
	}
	got := f.Search([]float32{1, 0}, 1, func(g string) bool { return g == "far" })
	if len(got) != 1 || got[0].Group != "far" {
		t.Errorf("hits = %v, want the one group that was not refused", got)
	}
}

// A file cut anywhere opens with exactly the frames that were whole.
func TestACutFileHoldsTheWholeFramesBeforeTheCut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "v")
	f, err := Open(path, "m", 4, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	sizes := []int64{fileSize(t, path)}
	for i, g := range []string{"a", "b", "c"} {
		if err := f.Put(g, [][]float32{{1, 2, 3, float32(i)}}, uint64(10+i)); err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, fileSize(t, path))
	}
	f.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := range len(whole) + 1 {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path, "m", 4, fixed(1))
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		want := 0
		for want < 3 && int64(cut) >= sizes[want+1] {
			want++
		}
		wantApplied := uint64(0)
		if want > 0 {
			wantApplied = uint64(9 + want)
		}
		if f.Count() != want || f.Applied() != wantApplied {
			t.Errorf("cut at %d: %d vectors at version %d, want %d at %d", cut, f.Count(), f.Applied(), want, wantApplied)
		}
		if err := f.Put("again", [][]float32{{1, 1, 1, 1}}, 99); err != nil {
			t.Errorf("cut at %d: %v", cut, err)
		}
		f.Close()
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestAFlippedBitEndsTheFileThere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, err := Open(path, "m", 2, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	first := fileSize(t, path)
	if err := errors.Join(f.Put("a", [][]float32{{1, 0}}, 1), f.Put("b", [][]float32{{0, 1}}, 2)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[first+10] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err = Open(path, "m", 2, fixed(1)); err != nil || f.Count() != 0 {
		t.Errorf("%d vectors are left behind a damaged frame, %v", f.Count(), err)
	}
	f.Close()
}

func TestAnotherModelBeginsAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, err := Open(path, "m", 2, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Put("a", [][]float32{{1, 0}}, 1); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if f, err = Open(path, "other", 2, fixed(1)); err != nil || f.Count() != 0 {
		t.Errorf("vectors of another model are still there: %d, %v", f.Count(), err)
	}
	f.Close()
}

func TestCompactionKeepsWhatIsLive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "v")
	f, err := Open(path, "m", 2, fixed(1))
	if err != nil {
		t.Fatal(err)
	}
	many := make([][]float32, 700)
	for i := range many {
		many[i] = []float32{1, float32(i)}
	}
	for v, g := range []string{"a", "b", "c", "a", "b"} {
		if err := f.Put(g, many, uint64(v)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Drop([]string{"a", "b"}, 9); err != nil {
		t.Fatal(err)
	}
	small := fileSize(t, path)
	if small > 3*700*8 || f.Count() != 700 || !f.Has("c") {
		t.Errorf("%d bytes and %d vectors are left", small, f.Count())
	}
	f.Close()
	if f, err = Open(path, "m", 2, fixed(1)); err != nil || f.Count() != 700 {
		t.Errorf("after opening again: %d vectors, %v", f.Count(), err)
	}
	f.Close()
}

func BenchmarkScan(b *testing.B) {
	f, err := Open(filepath.Join(b.TempDir(), "v"), "m", 384, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	vs := make([][]float32, 10_000)
	for i := range vs {
		vs[i] = make([]float32, 384)
		for j := range vs[i] {
			vs[i][j] = float32((i*31+j*17)%97) - 48
		}
	}
	if err := f.Put("a", vs, 1); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		f.Search(vs[7], 40, nil)
	}
}
