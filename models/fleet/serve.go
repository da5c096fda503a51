package fleet

import (
	"encoding/json"
	"net/http"

	"github.com/cloister-os/cloister/auth"
)

// Handler runs models of this node for other nodes; mount it at Prefix, where
// only members of the cluster can reach it.
func (f *Fleet) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+Prefix+"complete", f.serveComplete)
	mux.HandleFunc("POST "+Prefix+"embed", f.serveEmbed)
	return mux
}

func readJSON(w http.ResponseWriter, r *http.Request, into any) bool {
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(into); err != nil {
		http.Error(w, "the request cannot be read", http.StatusBadRequest)
		return false
	}
	return true
}

func (f *Fleet) serveComplete(w http.ResponseWriter, r *http.Request) {
	var req completeRequest
	if !readJSON(w, r, &req) {
		return
	}
	permit := f.cfg.Carried(req.Intent, auth.ModelInfer, auth.Model(req.Prompt.Model))
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	flush := http.NewResponseController(w)
	for chunk, err := range f.Engine.Complete(r.Context(), permit, req.Prompt) {
		if out.Encode(line{chunk, failed(err)}) != nil || flush.Flush() != nil {
			return // the caller left, which ends the model
		}
	}
}

func (f *Fleet) serveEmbed(w http.ResponseWriter, r *http.Request) {
	var req embedRequest
	if !readJSON(w, r, &req) {
		return
	}
	permit := f.cfg.Carried(req.Intent, auth.ModelEmbed, auth.Model(req.Model))
	vectors, usage, err := f.Engine.Embed(r.Context(), permit, req.Model, req.Texts)
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(embedReply{vectors, usage, failed(err)}); err != nil {
		f.cfg.Logger.Debug("Vectors were not taken by the node that asked.", "error", err)
	}
}
