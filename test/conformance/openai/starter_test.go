package openai_test

import (
	"strings"
	"testing"
	"time"

	"github.com/cloister-os/cloister/auth/guard/guardtest"
)

func TestTheStarterPackEmbedsByMeaning(t *testing.T) {
	h := open(t)
	h.starter(t)
	e := h.gateway.Embedder(guardtest.Node())
	began := time.Now()
	v, err := e.Embed(t.Context(), []string{
		"The invoice must be paid within thirty days.",
		"Bills are due one month after they are sent.",
		"The cat sleeps on the windowsill.",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first embedding after %v by %s", time.Since(began), e.Model())
	if near, far := dot(v[0], v[1]), dot(v[0], v[2]); near < far+0.3 || e.Dimensions() != 384 || len(v[0]) != 384 {
		t.Errorf("alike %v, unlike %v, %d dimensions", near, far, e.Dimensions())
	}
}

func TestTheStarterPackEmbedsTextsOfAnyLength(t *testing.T) {
	h := open(t)
	h.starter(t)
	dense := strings.Repeat("7;§", 500) // nearly a token a byte
	prose := strings.Repeat("The invoice must be paid within thirty days. ", 50)
	v, err := h.gateway.Embedder(guardtest.Node()).Embed(t.Context(), []string{dense, prose, "The invoice must be paid within thirty days."})
	if err != nil {
		t.Fatal(err)
	}
	if near, far := dot(v[1], v[2]), dot(v[0], v[2]); near < far+0.3 {
		t.Errorf("the same sentence many times: %v, unlike text: %v", near, far)
	}
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
