package api

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/node/api/wire"
)

type importInput struct {
	Accept string `header:"Accept" doc:"text/event-stream: progress while it runs"`
	Name   string `query:"name" maxLength:"100" doc:"What to call the model of a single weights file"`
	Body   wire.ImportModel
}

type modelInput struct {
	Name string `path:"name" maxLength:"200"`
}

type chunkInput struct {
	SHA256 string `path:"sha256" minLength:"64" maxLength:"64" doc:"The whole file's hash"`
	Offset int64  `query:"offset" minimum:"0"`
	raw    io.Reader
}

// Resolve keeps the body, which is not read into memory.
func (in *chunkInput) Resolve(ctx huma.Context) []error {
	in.raw = ctx.BodyReader()
	return nil
}

func (a *API) modelRoutes() {
	list := operation(http.MethodGet, "/api/v1/models", "list-models", "The models of the house and the routes that lead to them")
	handle(a, list, a.listModels)
	add := operation(http.MethodPost, "/api/v1/models", "import-model", "Import a model pack or a GGUF file that was uploaded or lies on the node's disk")
	handle(a, add, a.importModel)
	remove := operation(http.MethodDelete, "/api/v1/models/{name}", "remove-model", "Remove a model")
	handle(a, remove, func(ctx context.Context, p auth.Principal, in *modelInput) (*none, error) {
		return nil, a.cfg.Packs.Remove(ctx, p, in.Name)
	})
	licence := operation(http.MethodGet, "/api/v1/models/{name}/licence", "model-licence", "A model's licence")
	handle(a, licence, func(ctx context.Context, p auth.Principal, in *modelInput) (*body[wire.Licence], error) {
		m, text, err := a.cfg.Packs.Licence(ctx, p, in.Name)
		if err != nil {
			return nil, err
		}
		return &body[wire.Licence]{wire.Licence{Model: m.Name, Licence: m.Licence, Terms: m.Terms, Accepted: m.Accepted, Text: text}}, nil
	})
	accept := operation(http.MethodPost, "/api/v1/models/{name}/accept", "accept-licence", "Accept the terms of a model's licence for the installation")
	accept.DefaultStatus = http.StatusNoContent
	handle(a, accept, func(ctx context.Context, p auth.Principal, in *modelInput) (*none, error) {
		return nil, a.cfg.Packs.Accept(ctx, p, in.Name)
	})
	a.uploadRoutes()
}

func (a *API) uploadRoutes() {
	have := operation(http.MethodGet, "/api/v1/uploads/{sha256}", "get-upload", "How much of a file the node has")
	handle(a, have, func(ctx context.Context, p auth.Principal, in *chunkInput) (*body[wire.Upload], error) {
		return a.upload(ctx, p, in, func(context.Context) (int64, error) { return a.uploads.size(in.SHA256) })
	})
	put := operation(http.MethodPut, "/api/v1/uploads/{sha256}", "put-upload", "Send the next bytes of a file, at most 64 MiB at once")
	put.RequestBody = &huma.RequestBody{Content: map[string]*huma.MediaType{"application/octet-stream": {Schema: &huma.Schema{Type: "string", Format: "binary"}}}}
	put.MaxBodyBytes, put.BodyReadTimeout, put.SkipValidateBody = -1, chunkWait, true
	handle(a, put, func(ctx context.Context, p auth.Principal, in *chunkInput) (*body[wire.Upload], error) {
		return a.upload(ctx, p, in, func(ctx context.Context) (int64, error) {
			return a.uploads.add(ctx, in.SHA256, in.Offset, in.raw)
		})
	})
}

// upload does something with a file on its way, for whoever may import models.
func (a *API) upload(ctx context.Context, p auth.Principal, in *chunkInput, act func(context.Context) (int64, error)) (*body[wire.Upload], error) {
	if !sha256Pattern.MatchString(in.SHA256) {
		return nil, problem(http.StatusUnprocessableEntity, "That is not a SHA-256.", "An upload is named by 64 hexadecimal digits in lower case.")
	}
	out := wire.Upload{SHA256: in.SHA256}
	req := guard.Request{Principal: p, Action: auth.ModelManage, Resource: auth.Model(""), Detail: map[string]any{"what": "upload", "sha256": in.SHA256}}
	err := a.cfg.Door.Do(ctx, req, func(ctx context.Context, _ *guard.Permit) (guard.Outcome, error) {
		var err error
		out.Offset, err = act(ctx)
		return guard.Outcome{Usage: map[string]int64{"bytes": out.Offset - in.Offset}}, err
	})
	if err != nil {
		return nil, err
	}
	return &body[wire.Upload]{out}, nil
}

func (a *API) listModels(ctx context.Context, p auth.Principal, _ *none) (*body[[]wire.Model], error) {
	list, err := a.cfg.Packs.List(ctx, p)
	if err != nil {
		return nil, err
	}
	routes, err := a.cfg.Packs.Routes(ctx, p)
	if err != nil {
		return nil, err
	}
	out := make([]wire.Model, 0, len(list))
	for _, m := range list {
		one := wireModel(m)
		for _, r := range routes {
			if r.Model == m.Name {
				one.Routes = append(one.Routes, r.Name)
			}
		}
		out = append(out, one)
	}
	return &body[[]wire.Model]{out}, nil
}

func wireModel(m registry.Model) wire.Model {
	out := wire.Model{
		Name: m.Name, Kind: string(m.Kind), About: m.About, Pack: m.Pack, Trust: m.Trust, Digest: m.Digest, Bytes: m.Bytes,
		Licence: m.Licence, Terms: m.Terms, Usable: m.Usable(), Base: m.Base,
	}
	for _, node := range slices.Sorted(maps.Keys(m.Nodes)) {
		s := m.Nodes[node]
		out.Nodes = append(out.Nodes, wire.ModelNode{Node: node, Stage: string(s.Stage), Done: s.Done, Total: s.Total, Why: s.Why})
	}
	return out
}

func (a *API) importModel(ctx context.Context, p auth.Principal, in *importInput) (*huma.StreamResponse, error) {
	src := pack.Source{Path: in.Body.Path}
	if (in.Body.Path == "") == (in.Body.Upload == "") {
		return nil, problem(http.StatusUnprocessableEntity, "Say what to import.", "Send either the path of a file on the node or the hash of an upload.")
	}
	if in.Body.Upload != "" {
		if !sha256Pattern.MatchString(in.Body.Upload) {
			return nil, problem(http.StatusUnprocessableEntity, "That is not an upload.", "An upload is named by its SHA-256.")
		}
		src = pack.Source{Path: a.uploads.path(in.Body.Upload), SHA256: in.Body.Upload}
	}
	if strings.Contains(in.Accept, "text/event-stream") {
		return a.stream(ctx, a.importing(ctx, p, in, src))
	}
	res, err := a.bring(ctx, p, in, src, nil)
	if err != nil {
		return nil, err
	}
	return a.json(res), nil
}

// bring imports, and drops the upload when that has come to an end. Whoever may
// not import is refused without the upload being touched.
func (a *API) bring(ctx context.Context, p auth.Principal, in *importInput, src pack.Source, progress func(done, total int64)) (wire.ImportProgress, error) {
	may := a.cfg.Door.Decide(ctx, guard.Request{Principal: p, Action: auth.ModelManage, Resource: auth.Model(in.Name)}) == nil
	uploaded := in.Body.Upload != "" && may
	if uploaded {
		release, err := a.uploads.take(in.Body.Upload)
		if err != nil {
			return wire.ImportProgress{}, err
		}
		defer release()
	}
	res, err := a.cfg.Packs.Import(ctx, p, src, pack.Options{Name: in.Name, AcceptTerms: in.Body.AcceptLicence, Progress: progress})
	if uploaded && ctx.Err() == nil {
		if err := a.uploads.drop(in.Body.Upload); err != nil {
			a.cfg.Logger.Warn("an upload could not be dropped", "err", err)
		}
	}
	if err != nil {
		return wire.ImportProgress{}, err
	}
	out := wire.ImportProgress{Stage: "done", Pack: res.Pack, Trust: res.Trust, Models: []wire.Model{}}
	for _, m := range res.Models {
		out.Models = append(out.Models, wireModel(m))
	}
	return out, nil
}

// importing yields an import's progress a few times a second, and its result last.
func (a *API) importing(ctx context.Context, p auth.Principal, in *importInput, src pack.Source) iter.Seq2[message, error] {
	type end struct {
		res wire.ImportProgress
		err error
	}
	return func(yield func(message, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var done, total atomic.Int64
		ended := make(chan end, 1)
		go func() {
			res, err := a.bring(ctx, p, in, src, func(d, t int64) { done.Store(d); total.Store(t) })
			ended <- end{res, err}
		}()
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case e := <-ended:
				cancel()
				yield(message{kind: "final", data: e.res}, e.err)
				return
			case <-tick.C:
			}
			state := wire.ImportProgress{Stage: "import", Done: done.Load(), Total: total.Load()}
			if !yield(message{kind: "progress", data: state}, nil) {
				cancel()
				<-ended
				return
			}
		}
	}
}

// json answers with a value as JSON.
func (a *API) json(v any) *huma.StreamResponse {
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		hc.SetHeader("Content-Type", "application/json")
		hc.SetStatus(http.StatusOK)
		if err := a.huma.Marshal(hc.BodyWriter(), "application/json", v); err != nil {
			a.cfg.Logger.Debug("an answer could not be written", "err", fmt.Sprint(err))
		}
	}}
}
