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
)

// TestModelsAndDocumentsAreOnEveryNode is one walk, since starting three nodes
// takes longer than all that follows.
func TestModelsAndDocumentsAreOnEveryNode(t *testing.T) {
	c := start(t)
	c.aModelIsOnAll()
	c.aNodeWithoutModelsAnswers()
	c.aNodeIsKilledWhileItBringsAModel()
	c.documentsAreOnAll()
	c.aNodeLosesItsBlobs()
	c.run("", "model", "remove", "random")
	c.soon("the model is removed everywhere", func() error {
		for _, n := range c.nodes {
			if files := c.files(n, "engine", "models", "blobs"); files > 0 {
				return fmt.Errorf("%s holds %d files", n.name, files)
			}
		}
		return nil
	})
}

func (c *cluster) aModelIsOnAll() {
	c.t.Helper()
	weights := filepath.Join(c.dir, "random.gguf")
	shape := enginetest.Tiny()
	shape.Width, shape.Hidden, shape.Layers = 512, 1536, 4 // about 15 MB: some chunks
	if err := enginetest.Write(weights, shape); err != nil {
		c.t.Fatal(err)
	}
	c.run("", "model", "import", weights, "--name", "random", "--json")
	c.readyEverywhere()
	for _, n := range c.nodes {
		c.completes(n, "random")
	}
}

func (c *cluster) readyEverywhere() {
	c.t.Helper()
	c.stands("random", map[string]string{"node-1": "ready", "node-2": "ready", "node-3": "ready"})
}

// aNodeWithoutModelsAnswers: node-3 has lost its models and wants none, so it asks
// the others.
func (c *cluster) aNodeWithoutModelsAnswers() {
	c.t.Helper()
	three := c.nodes[2]
	c.kill(three)
	if err := os.RemoveAll(filepath.Join(three.data, "engine")); err != nil {
		c.t.Fatal(err)
	}
	c.serve(three, "--models-local=false")
	c.ready(three)
	c.completes(three, "random")
	if files := c.files(three, "engine", "models", "blobs"); files > 0 {
		c.t.Errorf("it holds %d files of models", files)
	}
}

func (c *cluster) aNodeIsKilledWhileItBringsAModel() {
	c.t.Helper()
	three := c.nodes[2]
	c.kill(three)
	c.serve(three)
	c.soon("the first bytes have come", func() error {
		if c.files(three, "engine", "partial")+c.files(three, "engine", "models", "blobs") == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	c.kill(three)
	c.serve(three)
	c.ready(three)
	c.readyEverywhere()
	c.completes(three, "random")
}

func (c *cluster) documentsAreOnAll() {
	c.t.Helper()
	docs := filepath.Join(c.dir, "docs")
	c.write(docs, 40)
	c.run("", "source", "add", "files", "handbook", "--path", docs)
	c.soon("all are read", func() error {
		out, err := c.try("", "source", "list", "--json")
		if err != nil {
			return err
		}
		var list []struct{ Progress struct{ Records int } }
		if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 || list[0].Progress.Records != 40 {
			return errors.Join(err, errors.New(out))
		}
		return nil
	})
	c.soon("all nodes hold as many blobs", func() error {
		counts := [3]int{}
		for i, n := range c.nodes {
			counts[i] = c.blobs(n)
		}
		if counts[0] < 40 || counts[1] != counts[0] || counts[2] != counts[0] {
			return fmt.Errorf("%v", counts)
		}
		return nil
	})
}

func (c *cluster) aNodeLosesItsBlobs() {
	c.t.Helper()
	one, three := c.nodes[0], c.nodes[2]
	c.kill(three)
	if err := os.RemoveAll(filepath.Join(three.data, "blobs")); err != nil {
		c.t.Fatal(err)
	}
	c.serve(three)
	c.ready(three)
	c.soon("they are back", func() error {
		if have, want := c.blobs(three), c.blobs(one); have != want {
			return fmt.Errorf("%d of %d", have, want)
		}
		return nil
	})
}

// stands waits until each node stands with a model as it should.
func (c *cluster) stands(model string, want map[string]string) {
	c.t.Helper()
	c.soon(fmt.Sprintf("model %s stands at %v", model, want), func() error {
		out, err := c.try("", "model", "list", "--json")
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
func (c *cluster) completes(n *node, model string) {
	c.t.Helper()
	c.soon(n.name+" answers", func() error {
		body := fmt.Sprintf(`{"model":%q,"max_tokens":5,"messages":[{"role":"user","content":"hello"}]}`, model)
		req, err := http.NewRequest(http.MethodPost, n.url()+"/v1/chat/completions", strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+c.key)
		resp, err := c.http.Do(req)
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
func (c *cluster) write(dir string, n int) {
	c.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		c.t.Fatal(err)
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
			c.t.Fatal(err)
		}
	}
}

// files counts the files in a folder of a node.
func (c *cluster) files(n *node, path ...string) int {
	list, _ := os.ReadDir(filepath.Join(append([]string{n.data}, path...)...)) // there may be no such folder yet
	return len(list)
}

// blobs counts a node's blobs.
func (c *cluster) blobs(n *node) int {
	list, err := filepath.Glob(filepath.Join(n.data, "blobs", "[0-9a-f][0-9a-f]", "*"))
	if err != nil {
		c.t.Fatal(err)
	}
	return len(list)
}
