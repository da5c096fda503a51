package fleet

import (
	"context"
	"errors"

	"github.com/cloister-os/cloister/models"
)

// Prefix is where a node runs models for the others.
const Prefix = "/models/v1/"

// Bounds of a call between nodes.
const (
	maxRequest = 16 << 20
	maxReply   = 64 << 20 // 512 vectors of 4,096 numbers are about 40 MB of JSON
	maxLine    = 1 << 20  // of a streamed completion
)

// completeRequest asks for a completion that the asking node's guard let through.
type completeRequest struct {
	Intent string
	Prompt models.Prompt
}

// line is one line of a streamed completion.
type line struct {
	models.Chunk
	Failed *failure `json:",omitempty"`
}

type embedRequest struct {
	Intent string
	Model  string
	Texts  []string
}

type embedReply struct {
	Vectors [][]float32
	Usage   models.Usage
	Failed  *failure `json:",omitempty"`
}

// failure is an error with its kind, so that the other node can act on it.
type failure struct {
	Kind string
	Text string
}

// kinds are the errors that keep their kind between nodes, by name.
func kinds() map[string]error {
	return map[string]error{
		"no-model": models.ErrNoModel, "unavailable": models.ErrUnavailable, "busy": models.ErrBusy, "invalid": models.ErrInvalid,
		"interrupted": models.ErrInterrupted, "cancelled": context.Canceled, "deadline": context.DeadlineExceeded,
	}
}

func failed(err error) *failure {
	if err == nil {
		return nil
	}
	for name, kind := range kinds() {
		if errors.Is(err, kind) {
			return &failure{name, err.Error()}
		}
	}
	return &failure{"unavailable", "the model engine of the other node failed: try again"}
}

func (f *failure) error() error {
	if f == nil {
		return nil
	}
	if kind, ok := kinds()[f.Kind]; ok {
		return models.Fail(kind, "%s", f.Text)
	}
	return models.Fail(models.ErrUnavailable, "%s", f.Text)
}
