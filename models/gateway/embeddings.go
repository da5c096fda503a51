package gateway

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/models"
)

type embeddingsRequest struct {
	Model      string `json:"model"`
	Input      inputs `json:"input"`
	Encoding   string `json:"encoding_format"` // "float" (or none) or "base64"
	Dimensions *int   `json:"dimensions"`
}

// inputs is one text or a list of texts.
type inputs []string

// UnmarshalJSON reads either form. Token numbers are refused: they mean nothing
// to a model other than the one they were made for.
func (in *inputs) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*in = inputs{one}
		return nil
	}
	if json.Unmarshal(data, (*[]string)(in)) != nil {
		return bad("input", "\"input\" is a text or a list of texts; token numbers are not read.")
	}
	return nil
}

func (r embeddingsRequest) check() error {
	switch {
	case r.Model == "":
		return bad("model", "Say which model: \"default\" is the route that always exists.")
	case len(r.Input) == 0 || len(r.Input) > maxInputs:
		return bad("input", "Send 1 to %d texts.", maxInputs)
	case r.Encoding != "" && r.Encoding != "float" && r.Encoding != "base64":
		return bad("encoding_format", "Vectors are given as \"float\" or \"base64\".")
	}
	for _, text := range r.Input {
		if text == "" || len(text) > maxInputBytes {
			return bad("input", "A text has 1 byte to %d KiB.", maxInputBytes>>10)
		}
	}
	return nil
}

type embeddingsReply struct {
	Object string           `json:"object"`
	Data   []embeddingReply `json:"data"`
	Model  string           `json:"model"`
	Usage  usage            `json:"usage"`
}

type embeddingReply struct {
	Object    string `json:"object"`
	Index     int    `json:"index"`
	Embedding any    `json:"embedding"` // []float32, or its little-endian bytes in base64
}

func (g *Gateway) serveEmbeddings(w http.ResponseWriter, r *http.Request, p auth.Principal) error {
	leave, err := g.enter()
	if err != nil {
		return err
	}
	defer leave()
	var req embeddingsRequest
	if err := readBody(w, r, &req); err != nil {
		return err
	}
	if err := req.check(); err != nil {
		return err
	}
	m, err := g.find(r.Context(), p, auth.ModelEmbed, req.Model, models.Embedding)
	if err != nil {
		return err
	}
	if req.Dimensions != nil && *req.Dimensions != m.Dimensions {
		return bad("dimensions", "The vectors of %s have %d dimensions and cannot be cut: leave \"dimensions\" out.", m.Name, m.Dimensions)
	}
	vectors, paid, err := g.embed(r.Context(), embedding{principal: p, texts: req.Input}, m)
	if err != nil {
		return err
	}
	reply := embeddingsReply{Object: "list", Model: m.Name, Usage: *paid.usage(), Data: make([]embeddingReply, len(vectors))}
	for i, v := range vectors {
		reply.Data[i] = embeddingReply{Object: "embedding", Index: i, Embedding: v}
		if req.Encoding == "base64" {
			reply.Data[i].Embedding = packed(v)
		}
	}
	writeJSON(w, http.StatusOK, reply)
	return nil
}

func packed(v []float32) string {
	data := make([]byte, 0, 4*len(v))
	for _, x := range v {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(data)
}
