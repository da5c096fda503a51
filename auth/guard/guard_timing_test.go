package guard_test

import (
	"testing"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/guard/guardtest"
	"github.com/cloister-os/cloister/store/storetest"
)

// BenchmarkDoor measures what the door itself costs, over a store in memory.
func BenchmarkDoor(b *testing.B) {
	req := guard.Request{
		Principal: guardtest.AgentFor(guardtest.KeyFor("wiki")), Action: auth.SourceRead, Resource: auth.Source("wiki"),
		Args: map[string]any{"question": "who wrote the parser?"}, Run: "r-1", UseCase: "answer",
	}
	b.Run("do", func(b *testing.B) {
		h := guardtest.Open(b, storetest.NewModel(nil))
		for b.Loop() {
			if err := h.Do(b.Context(), req, nothing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		h := guardtest.Open(b, storetest.NewModel(nil))
		for b.Loop() {
			if err := h.Read(b.Context(), req, nothing); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decide", func(b *testing.B) {
		h := guardtest.Open(b, storetest.NewModel(nil))
		for b.Loop() {
			if err := h.Decide(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
}
