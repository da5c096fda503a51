package store_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/store"
)

func TestTheFirstErrorOfATransactionStays(t *testing.T) {
	tx := store.NewTx()
	tx.Put("S/a", []byte("x"))
	tx.Put("nowhere", []byte("x"))
	tx.Put("S/b", []byte(strings.Repeat("x", store.MaxValueBytes+1)))
	if err := tx.Err(); !errors.Is(err, store.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	if tx.Len() != 1 {
		t.Errorf("%d operations", tx.Len())
	}
}

func TestFitsIsWhatPutAccepts(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 60000, store.MaxValueBytes} {
		tx := store.NewTx()
		for n := 0; tx.Fits(1, len("S/a")+size); n++ {
			if tx.Put("S/a", make([]byte, size)); tx.Err() != nil {
				t.Fatalf("size %d: number %d fits and is refused: %v", size, n, tx.Err())
			}
		}
		if tx.Len() > store.MaxTxOps || tx.Bytes() > store.MaxTxBytes {
			t.Errorf("size %d: %d operations of %d bytes", size, tx.Len(), tx.Bytes())
		}
		if tx.Put("S/a", make([]byte, size)); !errors.Is(tx.Err(), store.ErrTooLarge) {
			t.Errorf("size %d: one more is accepted: %v", size, tx.Err())
		}
	}
}

func TestAfterIsCalledOnce(t *testing.T) {
	tx, calls := store.NewTx(), 0
	tx.After(func(store.Result, error) { calls++ })
	tx.Done(store.Result{}, nil)
	tx.Done(store.Result{}, store.ErrUnknown)
	if calls != 1 {
		t.Errorf("called %d times", calls)
	}
}
