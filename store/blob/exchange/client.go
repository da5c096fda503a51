package exchange

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of a Client.
const (
	maxChunks   = 4                // chunks in memory at once, over all pulls
	chunkWithin = 60 * time.Second // for one chunk from one node
	listWithin  = 5 * time.Minute  // for a list of chunks: the node reads the blob whole for it
	batchWithin = 60 * time.Second
)

// Client asks other nodes for blobs and gives them blobs. It is safe for
// concurrent use.
type Client struct {
	peers  Peers
	log    *slog.Logger
	chunks chan struct{} // one token for each chunk in memory
	doubts doubts
}

// NewClient returns a client. A nil logger is slog.Default.
func NewClient(p Peers, log *slog.Logger) *Client {
	if log == nil {
		log = slog.Default()
	}
	return &Client{peers: p, log: log, chunks: make(chan struct{}, maxChunks), doubts: newDoubts()}
}

// Others are the nodes that may be asked.
func (c *Client) Others() []string { return c.peers.Others() }

// Order is a list of nodes with those last that did not answer lately.
func (c *Client) Order(nodes []string) []string { return c.doubts.order(nodes) }

// send makes one request to a node. The body of the response is the caller's to
// close; a status that is not 2xx is an error.
func (c *Client) send(ctx context.Context, method, node, path string, body io.Reader, header ...string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://"+node+Prefix+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := c.peers.Client().Do(req)
	if err == nil || !errors.Is(ctx.Err(), context.Canceled) {
		c.doubts.answered(node, err == nil)
	}
	if err != nil {
		return nil, fmt.Errorf("ask node %s: %w", node, err)
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(res.Body, 512))
	kind := errors.New(strings.TrimSpace(string(text)))
	switch res.StatusCode {
	case http.StatusNotFound:
		kind = errNotHeld
	case http.StatusServiceUnavailable:
		kind = errBusy
	}
	return nil, fmt.Errorf("node %s: %w", node, kind)
}

// list asks a node for a blob's chunks.
func (c *Client) list(ctx context.Context, node string, h blob.Hash, max int64) (list blob.Chunks, err error) {
	ctx, cancel := context.WithTimeout(ctx, listWithin)
	defer cancel()
	res, err := c.send(ctx, "GET", node, h.String()+"/chunks", nil)
	if err != nil {
		return list, err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(io.LimitReader(res.Body, maxListBytes)).Decode(&list); err != nil {
		return list, fmt.Errorf("node %s sent a list that cannot be read: %w", node, err)
	}
	if err := list.Check(max); err != nil {
		return list, fmt.Errorf("node %s: %w", node, err)
	}
	return list, nil
}

// chunk asks a node for one chunk and compares it with the list; errWrong when it
// is another.
func (c *Client) chunk(ctx context.Context, node string, h blob.Hash, list blob.Chunks, i int) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, chunkWithin)
	defer cancel()
	start, end := list.Range(i)
	res, err := c.send(ctx, "GET", node, h.String(), nil, "Range", "bytes="+strconv.FormatInt(start, 10)+"-"+strconv.FormatInt(end-1, 10))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b := make([]byte, end-start)
	if _, err := io.ReadFull(res.Body, b); err != nil {
		return nil, fmt.Errorf("node %s broke off: %w", node, err)
	}
	if more, _ := res.Body.Read(make([]byte, 1)); more > 0 || Sum(b) != list.Hashes[i] {
		return nil, fmt.Errorf("node %s: %w", node, errWrong)
	}
	return b, nil
}

// Sum is the name of bytes.
func Sum(b []byte) blob.Hash { return sha256.Sum256(b) }

// distrust remembers that a node sent wrong bytes of a blob, and tells it.
func (c *Client) distrust(ctx context.Context, node string, h blob.Hash) {
	c.doubts.add(node, h)
	c.log.Warn("Another node sent bytes that are not the blob's; it is not asked for it again.", "peer", node, "blob", h)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	go func() {
		defer cancel()
		if res, err := c.send(ctx, "POST", node, h.String()+"/doubt", nil); err == nil {
			res.Body.Close()
		}
	}()
}

// trusted are the nodes of a list, then all others, that have not sent wrong
// bytes of the blob.
func (c *Client) trusted(h blob.Hash, first []string) []string {
	others := c.peers.Others()
	var out []string
	for _, node := range slices.Concat(first, others) {
		if slices.Contains(others, node) && !slices.Contains(out, node) && !c.doubts.has(node, h) {
			out = append(out, node)
		}
	}
	return c.doubts.order(out)
}

// Batch asks one node for many small blobs, and calls on with each that came and
// is right. It returns those that the node does not hold, and those that must be
// pulled alone; what is in neither and did not come may be asked for again.
func (c *Client) Batch(ctx context.Context, node string, list []blob.Hash, on func(blob.Hash, []byte) error) (missing, alone []blob.Hash, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchWithin)
	defer cancel()
	list = list[:min(len(list), MaxBatch)]
	res, err := c.send(ctx, "POST", node, "batch", bytes.NewReader(hashBytes(list)))
	if err != nil {
		return nil, nil, err
	}
	defer res.Body.Close()
	for _, want := range list {
		h, length, err := readHead(res.Body)
		if err == nil && h != want {
			err = errWrong
		}
		if err != nil {
			return missing, alone, fmt.Errorf("node %s broke off: %w", node, err)
		}
		switch length {
		case notHeld:
			missing = append(missing, h)
		case askAlone:
			alone = append(alone, h)
		case askLater:
		default:
			b := make([]byte, length)
			if _, err := io.ReadFull(res.Body, b); err != nil {
				return missing, alone, fmt.Errorf("node %s broke off: %w", node, err)
			}
			if Sum(b) != h {
				c.distrust(ctx, node, h)
				missing = append(missing, h)
				continue
			}
			if err := on(h, b); err != nil {
				return missing, alone, err
			}
		}
	}
	return missing, alone, nil
}

// Push gives a node small blobs of this one's and returns which of them are
// durable there. At most MaxBatch and MaxBatchBytes go at once; the rest is left
// out.
func (c *Client) Push(ctx context.Context, node string, from *blob.Store, list []Item) (held []blob.Hash, err error) {
	ctx, cancel := context.WithTimeout(ctx, batchWithin)
	defer cancel()
	var body bytes.Buffer
	var sent []blob.Hash
	for _, item := range list {
		if len(sent) == MaxBatch || body.Len() > MaxBatchBytes {
			break
		}
		b, err := readLocal(from, item.Hash)
		if err != nil {
			c.log.Warn("A blob cannot be given to another node.", "blob", item.Hash, "error", err)
			continue
		}
		if err := writeHead(&body, item.Hash, uint64(len(b))); err != nil {
			return nil, err
		}
		body.Write(b)
		sent = append(sent, item.Hash)
	}
	if len(sent) == 0 {
		return nil, nil
	}
	res, err := c.send(ctx, "POST", node, "push", &body)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer := make([]byte, len(sent))
	if _, err := io.ReadFull(res.Body, answer); err != nil {
		return nil, fmt.Errorf("node %s broke off: %w", node, err)
	}
	for i, h := range sent {
		if answer[i] == 1 {
			held = append(held, h)
		}
	}
	return held, nil
}

func readLocal(from *blob.Store, h blob.Hash) ([]byte, error) {
	f, size, err := from.OpenLocal(h)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > blob.ChunkBytes {
		return nil, fmt.Errorf("%w: blob %s has %d bytes, a batch takes %d", blob.ErrTooLarge, h, size, blob.ChunkBytes)
	}
	b := make([]byte, size)
	_, err = io.ReadFull(f, b)
	return b, err
}

// Hold makes a node bring a large blob of this one's to itself, and returns when
// it is durable there.
func (c *Client) Hold(ctx context.Context, node string, h blob.Hash) error {
	for {
		res, err := c.send(ctx, "POST", node, h.String()+"/hold", nil)
		if err != nil {
			return err
		}
		res.Body.Close()
		if res.StatusCode == http.StatusOK {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}
