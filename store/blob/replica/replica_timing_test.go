package replica_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
)

// BenchmarkManyDocuments puts documents of 32 KiB from four readers and names them
// in batches of 100, as a sync does.
func BenchmarkManyDocuments(b *testing.B) {
	for _, nodes := range []int{1, 3} {
		b.Run(fmt.Sprint(nodes, "-nodes"), func(b *testing.B) {
			cfg := short()
			cfg.Every = time.Hour
			c := newCluster(b, nodes, cfg)
			blobs := c.nodes[0].Blobs
			docs := make(chan int)
			put := make(chan blob.Hash, 100)
			var readers sync.WaitGroup
			for range 4 {
				readers.Go(func() {
					for i := range docs {
						h, err := blobs.PutBytes(context.Background(), random(32<<10, uint64(i)))
						if err != nil {
							b.Error(err)
						}
						put <- h
					}
				})
			}
			b.SetBytes(32 << 10)
			go func() {
				for i := range b.N {
					docs <- i
				}
				close(docs)
				readers.Wait()
				close(put)
			}()
			for batch := range batches(put, 100) {
				if err := blobs.Secure(b.Context(), batch...); err != nil {
					b.Fatal(err)
				}
				tx := store.NewTx()
				for _, h := range batch {
					blobs.Name(tx, h, 32<<10)
				}
				if _, err := c.store.Apply(b.Context(), tx); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func batches(in <-chan blob.Hash, n int) func(yield func([]blob.Hash) bool) {
	return func(yield func([]blob.Hash) bool) {
		var batch []blob.Hash
		for h := range in {
			if batch = append(batch, h); len(batch) == n {
				if !yield(batch) {
					return
				}
				batch = nil
			}
		}
		if len(batch) > 0 {
			yield(batch)
		}
	}
}
