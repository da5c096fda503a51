package bulk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cloister-os/cloister/models/engine/enginetest"
	"github.com/cloister-os/cloister/test/cluster"
)

// bulk is a cluster, and a key with which models are asked.
type bulk struct {
	*cluster.Cluster
	key string
}

func begin(t testing.TB) *bulk {
	t.Helper()
	c := &bulk{Cluster: cluster.Start(t)}
	var key struct{ Secret string }
	c.Read(&key, "key", "create", "bulk", "--scope", "model", "--json")
	c.key = key.Secret
	return c
}

// TestModelsAndDocumentsAreOnEveryNode is one walk, since starting three nodes
// takes longer than all that follows.
func TestModelsAndDocumentsAreOnEveryNode(t *testing.T) {
	c := begin(t)
	c.aModelIsOnAll()
	c.aNodeWithoutModelsAnswers()
	c.aNodeIsKilledWhileItBringsAModel()
	c.documentsAreOnAll()
	c.aNodeLosesItsBlobs()
	c.Run("", "model", "remove", "random")
	c.Soon("the model is removed everywhere", func() error {
		for _, n := range c.Nodes {
			if files := c.files(n, "engine", "models", "blobs"); files > 0 {
				return fmt.Errorf("%s holds %d files", n.Name, files)
			}
		}
		return nil
	})
}

func (c *bulk) aModelIsOnAll() {
	c.T.Helper()
	weights := filepath.Join(c.Dir, "random.gguf")
	shape := enginetest.Tiny()
	shape.Width, shape.Hidden, shape.Layers = 512, 1536, 4 // about 15 MB: some chunks
	if err := enginetest.Write(weights, shape); err != nil {
		c.T.Fatal(err)
	}
	c.Run("", "model", "import", weights, "--name", "random", "--json")
	c.readyEverywhere()
	for _, n := range c.Nodes {
		c.completes(n, "random")
	}
}

func (c *bulk) readyEverywhere() {
	c.T.Helper()
	c.stands("random", map[string]string{"node-1": "ready", "node-2": "ready", "node-3": "ready"})
}

// aNodeWithoutModelsAnswers: node-3 has lost its models and wants none, so it asks
// the others.
func (c *bulk) aNodeWithoutModelsAnswers() {
	c.T.Helper()
	three := c.Nodes[2]
	c.Kill(three)
	if err := os.RemoveAll(filepath.Join(three.Data, "engine")); err != nil {
		c.T.Fatal(err)
	}
	c.Serve(three, "--models-local=false")
	c.Ready(three)
	c.completes(three, "random")
	if files := c.files(three, "engine", "models", "blobs"); files > 0 {
		c.T.Errorf("it holds %d files of models", files)
	}
}

func (c *bulk) aNodeIsKilledWhileItBringsAModel() {
	c.T.Helper()
	three := c.Nodes[2]
	c.Kill(three)
	c.Serve(three)
	c.Soon("the first bytes have come", func() error {
		if c.files(three, "engine", "partial")+c.files(three, "engine", "models", "blobs") == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	c.Kill(three)
	c.Serve(three)
	c.Ready(three)
	c.readyEverywhere()
	c.completes(three, "random")
}

func (c *bulk) documentsAreOnAll() {
	c.T.Helper()
	docs := filepath.Join(c.Dir, "docs")
	c.write(docs, 40)
	c.Run("", "source", "add", "files", "handbook", "--path", docs)
	c.Soon("all are read", func() error {
		out, err := c.Try("", "source", "list", "--json")
		if err != nil {
			return err
		}
		var list []struct{ Progress struct{ Records int } }
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].Progress.Records != 40 {
			return errors.Join(err, errors.New(out))
		}
		return nil
	})
	c.Soon("all nodes hold as many blobs", func() error {
		counts := [3]int{}
		for i, n := range c.Nodes {
			counts[i] = c.blobs(n)
		}
		if counts[0] < 40 || counts[1] != counts[0] || counts[2] != counts[0] {
			return fmt.Errorf("%v", counts)
		}
		return nil
	})
}

func (c *bulk) aNodeLosesItsBlobs() {
	c.T.Helper()
	one, three := c.Nodes[0], c.Nodes[2]
	c.Kill(three)
	if err := os.RemoveAll(filepath.Join(three.Data, "blobs")); err != nil {
		c.T.Fatal(err)
	}
	c.Serve(three)
	c.Ready(three)
	c.Soon("they are back", func() error {
		if have, want := c.blobs(three), c.blobs(one); have != want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// stands waits until each node stands with a model as it should.
func (c *bulk) stands(model string, want map[string]string) {
	c.T.Helper()
	c.Soon(fmt.Sprintf("model %s stands at %v", model, want), func() error {
		out, err := c.Try("", "model", "list", "--json")
		if err != nil {
			return err
		}
		var list []struct {
			Name  string
			Nodes []struct{ Node, Stage string }
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil {
			return err
		}
		right := 0
		for _, m := range list {
			for _, n := range m.Nodes {
				if m.Name == model && want[n.Node] == n.Stage {
					right++
				}
			}
		}
		if right != len(want) {
			return errors.New(out)
		}
		return nil
	})
}

// completes has a node answer with a model.
func (c *bulk) completes(n *cluster.Node, model string) {
	c.T.Helper()
	c.Soon(n.Name+" answers", func() error {
		body := fmt.Sprintf(`{"model":%q,"max_tokens":5,"messages":[{"role":"user","content":"hello"}]}`, model)
		req, err := http.NewRequest(http.MethodPost, n.URL()+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+c.key)
		resp, err := c.HTTP.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err == nil && (resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte(`"completion_tokens":5`))) {
			err = fmt.Errorf("%s: %s", resp.Status, text)
		}
		return err
	})
}

// write makes a folder of documents that are too large to be kept in the store.
func (c *bulk) write(dir string, n int) {
	c.T.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.T.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("the gate opens at dawn while seven ships wait in harbour for grain and letters from the north")
	for i := range n {
		var b strings.Builder
		fmt.Fprintf(&b, "# Document %d\n\n", i)
		for b.Len() < 60_000 {
			fmt.Fprintf(&b, "%s %s %s %d.\n", words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], words[rnd.IntN(len(words))], rnd.IntN(1_000_000))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.md", i)), []byte(b.String()), 0o644); err != nil {
			c.T.Fatal(err)
		}
	}
}

// files counts the files in a folder of a node.
func (c *bulk) files(n *cluster.Node, path ...string) int {
	list, _ := os.ReadDir(filepath.Join(append([]string{n.Data}, path...)...)) // there may be no such folder yet
	return len(list)
}

// blobs counts a node's blobs.
func (c *bulk) blobs(n *cluster.Node) int {
	list, err := filepath.Glob(filepath.Join(n.Data, "blobs", "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		c.T.Fatal(err)
	}
	return len(list)
}
