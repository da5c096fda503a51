// Package enginetest makes models for tests: small, random, and the same for
// the same seed, so that no test needs a download. It may import Ollama's file
// format (pure Go) and testing helpers; only tests import it.
package enginetest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strings"

	"github.com/ollama/ollama/fs/ggml"
)

// Shape is the size of a random model.
type Shape struct {
	Seed   uint64
	Width  int // a multiple of 64
	Hidden int // of the feed-forward layers, a multiple of 32
	Layers int
	Heads  int
	Shared int // key-value heads
	Window int // tokens of context
}

// Tiny answers in microseconds a token and takes some hundred kilobytes.
func Tiny() Shape {
	return Shape{Seed: 1, Width: 64, Hidden: 128, Layers: 2, Heads: 4, Shared: 2, Window: 512}
}

// Medium is large enough (about 100 MB) that arithmetic dominates, for benchmarks.
func Medium() Shape {
	return Shape{Seed: 1, Width: 1024, Hidden: 2816, Layers: 8, Heads: 16, Shared: 4, Window: 512}
}

// Slow takes some milliseconds a token, so that a test can act in mid-stream.
func Slow() Shape {
	return Shape{Seed: 1, Width: 768, Hidden: 2048, Layers: 6, Heads: 12, Shared: 4, Window: 512}
}

// Write writes a model of the llama family to a GGUF file. It speaks random
// bytes: tokens are single bytes, and its end-of-text token is never likely.
func Write(path string, s Shape) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	g := &generator{random: rand.New(rand.NewPCG(s.Seed, 7)), shape: s}
	if err := ggml.WriteGGUF(f, g.metadata(), g.tensors()); err != nil {
		return fmt.Errorf("write a random model: %w", err)
	}
	return f.Close()
}

type generator struct {
	random *rand.Rand
	shape  Shape
	list   []*ggml.Tensor
}

func (g *generator) metadata() ggml.KV {
	s := g.shape
	tokens, types := vocabulary()
	return ggml.KV{
		"general.architecture":                   "llama",
		"general.name":                           fmt.Sprintf("random-%d", s.Seed),
		"general.file_type":                      uint32(7), // mostly Q8_0
		"llama.block_count":                      uint32(s.Layers),
		"llama.context_length":                   uint32(s.Window),
		"llama.embedding_length":                 uint32(s.Width),
		"llama.feed_forward_length":              uint32(s.Hidden),
		"llama.attention.head_count":             uint32(s.Heads),
		"llama.attention.head_count_kv":          uint32(s.Shared),
		"llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"llama.rope.dimension_count":             uint32(s.Width / s.Heads),
		"llama.vocab_size":                       uint32(len(tokens)),
		"tokenizer.ggml.model":                   "gpt2",
		"tokenizer.ggml.pre":                     "default",
		"tokenizer.ggml.tokens":                  tokens,
		"tokenizer.ggml.token_type":              types,
		"tokenizer.ggml.merges":                  []string{"a b"},
		"tokenizer.ggml.bos_token_id":            uint32(256),
		"tokenizer.ggml.eos_token_id":            uint32(257),
		"tokenizer.ggml.add_bos_token":           true,
	}
}

// vocabulary has one token for each byte, spelled as byte-level BPE spells it
// (printable bytes as themselves, the others from U+0100 on), and two controls.
func vocabulary() (tokens []string, types []int32) {
	const normal, control = 1, 3
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !(b > 32 && b < 127 || b > 160 && b != 173) {
			r = next
			next++
		}
		tokens, types = append(tokens, string(r)), append(types, normal)
	}
	return append(tokens, "<|bos|>", "<|eos|>"), append(types, control, control)
}

func (g *generator) tensors() []*ggml.Tensor {
	s := g.shape
	tokens, _ := vocabulary()
	w, v, kv := s.Width, len(tokens), s.Width/s.Heads*s.Shared
	g.weights("token_embd.weight", w, v)
	for i := range s.Layers {
		block := fmt.Sprintf("blk.%d.", i)
		g.ones(block+"attn_norm.weight", w)
		g.weights(block+"attn_q.weight", w, w)
		g.weights(block+"attn_k.weight", w, kv)
		g.weights(block+"attn_v.weight", w, kv)
		g.weights(block+"attn_output.weight", w, w)
		g.ones(block+"ffn_norm.weight", w)
		g.weights(block+"ffn_gate.weight", w, s.Hidden)
		g.weights(block+"ffn_up.weight", w, s.Hidden)
		g.weights(block+"ffn_down.weight", s.Hidden, w)
	}
	g.ones("output_norm.weight", w)
	g.weights("output.weight", w, v)
	return g.list
}

// weights adds a matrix of random Q8_0 blocks: a 16-bit scale and 32 bytes.
func (g *generator) weights(name string, columns, rows int) {
	const block, smallScale = 34, 0x1000
	data := make([]byte, columns*rows/32*block)
	for at := 0; at < len(data); at += block {
		binary.LittleEndian.PutUint16(data[at:], smallScale)
		for i := at + 2; i < at+block; i += 8 {
			var eight [8]byte
			binary.LittleEndian.PutUint64(eight[:], g.random.Uint64())
			copy(data[i:at+block], eight[:])
		}
	}
	g.list = append(g.list, &ggml.Tensor{Name: name, Kind: 8, Shape: []uint64{uint64(columns), uint64(rows)}, WriterTo: bytes.NewReader(data)})
}

// ones adds a vector of float32 ones.
func (g *generator) ones(name string, n int) {
	data := strings.Repeat(string(binary.LittleEndian.AppendUint32(nil, math.Float32bits(1))), n)
	g.list = append(g.list, &ggml.Tensor{Name: name, Kind: 0, Shape: []uint64{uint64(n)}, WriterTo: strings.NewReader(data)})
}
