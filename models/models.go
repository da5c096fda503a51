// Package models holds the words of the model room: what a completion asks and
// yields, what a model is, and the Engine that runs one.
//
// The rooms below it: engine (local inference as a supervised child process),
// registry (which models there are, and the routes to them), pack (how a model
// enters the house), gateway (the OpenAI front and everyone's way to a model).
// It may import store and auth, and nothing above; graph and models never
// import each other.
package models

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store/blob"
)

// The kinds of failure of a model call, wrapped by Fail in an error whose text
// says what to do next.
var (
	ErrNoModel     = errors.New("no such model")
	ErrUnavailable = errors.New("the model engine is not available")
	ErrBusy        = errors.New("the model engine is busy")
	ErrInvalid     = errors.New("the model cannot take this request")
	ErrInterrupted = errors.New("the model stopped in the middle of its answer")
	ErrTerms       = errors.New("the terms of the model are not accepted")
	ErrNoSpace     = errors.New("not enough free disk space")
)

// Fail makes an error of a kind that reads as the sentence alone.
func Fail(kind error, format string, args ...any) error {
	return &failure{kind: kind, cause: fmt.Errorf(format, args...)}
}

type failure struct{ kind, cause error }

func (f *failure) Error() string   { return f.cause.Error() }
func (f *failure) Unwrap() []error { return []error{f.kind, f.cause} }

// Kind is what a model is for.
type Kind string

// The kinds of model.
const (
	Completion Kind = "completion"
	Embedding  Kind = "embedding"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string `json:"role"` // "system", "user" or "assistant"
	Content string `json:"content"`
}

// Prompt is one request for a completion. Exactly one of Messages (rendered by
// the model's template) and Raw (given to the model as it is) is set.
type Prompt struct {
	Model       string
	Messages    []Message
	Raw         string
	MaxTokens   int      // 0 = the engine's bound
	Temperature *float64 // nil = the model's own
	TopP        *float64
	Frequency   *float64 // frequency penalty
	Presence    *float64 // presence penalty
	Seed        *int
	Stop        []string
	JSON        bool // the text must be a JSON value
}

// Usage is what a call took, as the engine counted it.
type Usage struct {
	TokensIn  int64
	TokensOut int64
	CPU       time.Duration // busy time × threads
}

// Chunk is one piece of a completion. The last one has Done set and may have
// text too.
type Chunk struct {
	Text   string
	Done   bool
	Reason string // with Done: "stop" or "length"
	Usage  Usage  // with Done
}

// Digest is a SHA-256 in hexadecimal.
type Digest string

// Spec is a model to create from blobs that the engine already holds.
type Spec struct {
	Name     string
	Files    map[string]Digest // file name → content
	Template string            // how messages become a prompt; "" = what the files say
	Stop     []string          // texts that end an answer
	Licence  string            // the full text
}

// Installed is a model that the engine holds.
type Installed struct {
	Name  string
	Bytes int64
}

// Blob is one file of a model as an engine keeps it.
type Blob struct {
	Digest Digest
	Bytes  int64
}

// Image is a model as an engine holds it: with its blobs, all that another engine
// needs to hold the very same model. What is in it is the engine's own affair.
type Image struct {
	Manifest []byte
	Blobs    []Blob
}

// Bytes is the size of all blobs.
func (i Image) Bytes() (sum int64) {
	for _, b := range i.Blobs {
		sum += b.Bytes
	}
	return sum
}

// Engine runs models on this node. Each method that acts takes a permit for the
// act on the model by that name: model.infer, model.embed or model.manage.
type Engine interface {
	// Complete streams a completion. An error is yielded last, with the usage so
	// far as well as it is known: ErrInterrupted when the model died after it had
	// begun, the context's when the caller left.
	Complete(ctx context.Context, permit *guard.Permit, p Prompt) iter.Seq2[Chunk, error]
	// Embed returns one vector of length one for each text. Texts longer than the
	// model's window are split and their vectors averaged.
	Embed(ctx context.Context, permit *guard.Permit, model string, texts []string) ([][]float32, Usage, error)

	// Room returns ErrNoSpace when so many bytes of models would leave less free
	// disk than the reserve.
	Room(bytes int64) error
	// Put stores a blob under its digest and verifies it; what an interrupted Put
	// left is continued: r still begins at the blob's first byte, and passes over
	// what is here already when it is an io.Seeker.
	Put(ctx context.Context, permit *guard.Permit, model string, want Digest, size int64, r io.Reader) error
	// Create makes a model from blobs that were Put.
	Create(ctx context.Context, permit *guard.Permit, s Spec) error
	// Image describes a model that the engine holds, or is ErrNoModel.
	Image(ctx context.Context, name string) (Image, error)
	// Install makes a model of an image whose blobs were Put, in place of one of
	// the same name.
	Install(ctx context.Context, permit *guard.Permit, name string, image Image) error
	// Verify reads a model's blobs, removes those that are damaged, so that they can
	// be Put again, and returns them.
	Verify(ctx context.Context, permit *guard.Permit, model string) (damaged []Digest, err error)
	// Open opens a blob that the engine holds, for another node that is to hold the
	// same model; blob.ErrNotFound when it does not.
	Open(d Digest) (blob.File, int64, error)
	// Discard drops blobs that were Put and that no model uses, whole or in part.
	Discard(ctx context.Context, permit *guard.Permit, model string, blobs []Digest) error
	// Delete removes a model and the blobs that only it uses.
	Delete(ctx context.Context, permit *guard.Permit, name string) error
	// List names the models that the engine holds.
	List(ctx context.Context) ([]Installed, error)
}
