package sealed

import (
	"bytes"
	"io"
	"testing"
)

func BenchmarkFileSeal(b *testing.B) {
	ring, p := newRing(1), bytesOf(8<<20)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		w, _ := NewWriter(io.Discard, ring, nil)
		if _, err := w.Write(p); err != nil {
			b.Fatal(err)
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFileOpen(b *testing.B) {
	ring, p := newRing(1), bytesOf(8<<20)
	s := seal(b, ring, nil, p)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		r, _ := NewReader(bytes.NewReader(s), int64(len(s)), ring, nil)
		if _, err := r.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRecord(b *testing.B) {
	for _, n := range []struct {
		name string
		size int
	}{{"256", 256}, {"4K", 4 << 10}, {"256K", 256 << 10}} {
		box, p, aad := NewBox(newRing(1), "test"), bytesOf(n.size), make([]byte, 17)
		buf := make([]byte, 0, n.size+RecordOverhead)
		b.Run("seal/"+n.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n.size))
			for b.Loop() {
				if _, err := box.Seal(buf, aad, p); err != nil {
					b.Fatal(err)
				}
			}
		})
		rec, _ := box.Seal(nil, aad, p)
		b.Run("open/"+n.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(n.size))
			for b.Loop() {
				if _, err := box.Open(buf, aad, rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
