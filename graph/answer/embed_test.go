package answer_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/cloister-os/cloister/graph"
)

// testEmbedder asks the node named by CLOISTER_EMBED_URL for vectors, with the
// API key in CLOISTER_EMBED_KEY; without them it returns nil, text only. Such a
// node is how coefficients for vectors are fitted and measured; the tests that
// must always run do not need one.
func testEmbedder(testing.TB) graph.Embedder {
	if os.Getenv("CLOISTER_EMBED_URL") == "" {
		return nil
	}
	return &httpEmbedder{url: os.Getenv("CLOISTER_EMBED_URL"), key: os.Getenv("CLOISTER_EMBED_KEY"),
		client: &http.Client{Timeout: 2 * time.Minute, Transport: &http.Transport{
			TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the node is on this machine
		}}}
}

type httpEmbedder struct {
	url, key string
	client   *http.Client
}

func (e *httpEmbedder) Model() string   { return "all-minilm-l6-v2" }
func (e *httpEmbedder) Dimensions() int { return 384 }

func (e *httpEmbedder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := json.Marshal(map[string]any{"model": e.Model(), "input": texts})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url+"/v1/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+e.key)
	req.Header.Set("Content-Type", "application/json")
	res, err := e.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var got struct {
		Data []struct{ Embedding []float32 }
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the node answered %s", res.Status)
	}
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return nil, err
	}
	out := make([][]float32, len(got.Data))
	for i, d := range got.Data {
		out[i] = d.Embedding
	}
	return out, nil
}

// waitForVectors returns when everything that is indexed can be compared.
func (r rig) waitForVectors(t testing.TB) {
	t.Helper()
	if err := r.index.WaitForVectors(context.Background()); err != nil {
		t.Fatal(err)
	}
}
