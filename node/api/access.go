package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/node/api/wire"
)

type audienceInput struct {
	Name string `path:"name" maxLength:"64"`
	Body wire.Audience
}

// accessRoutes tell and change who may read which source.
func (a *API) accessRoutes() {
	list := operation(http.MethodGet, "/api/v1/access", "list-access", "Who may read which source and through which policy, and what nobody may read")
	handle(a, list, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Access], error) {
		all, err := a.cfg.Sources.Readers(ctx, p)
		if err != nil {
			return nil, err
		}
		out := wire.Access{Sources: []wire.SourceAccess{}, Orphans: []wire.Hidden{}, Keys: all.Keys}
		for _, r := range all.Sources {
			out.Sources = append(out.Sources, wireAccess(r))
		}
		for _, h := range all.Orphans {
			out.Orphans = append(out.Orphans, wire.Hidden{Source: h.Source, Records: h.Records})
		}
		return &body[wire.Access]{out}, nil
	})
	get := operation(http.MethodGet, "/api/v1/sources/{name}/audience", "get-audience", "Who may read one source, and through which policy")
	handle(a, get, func(ctx context.Context, p auth.Principal, in *sourceInput) (*body[wire.SourceAccess], error) {
		r, _, err := a.cfg.Sources.ReadersOf(ctx, p, in.Name)
		if err != nil {
			return nil, err
		}
		return &body[wire.SourceAccess]{wireAccess(r)}, nil
	})
	put := operation(http.MethodPut, "/api/v1/sources/{name}/audience", "put-audience", "Say anew who may read a source; it counts from the next read on")
	handle(a, put, func(ctx context.Context, p auth.Principal, in *audienceInput) (*body[wire.Audience], error) {
		src, err := a.cfg.Sources.SetAudience(ctx, p, in.Name, in.Body.Audience)
		if err != nil {
			return nil, a.refusedFirst(ctx, p, auth.SourceManage, in.Name, err)
		}
		return &body[wire.Audience]{wire.Audience{Audience: src.Audience}}, nil
	})
}

func wireAccess(r connect.Readers) wire.SourceAccess {
	out := wire.SourceAccess{Source: r.Source.Name, Kind: r.Source.Kind, Audience: r.Source.Audience, Readers: []wire.Reader{}, Nobody: r.Nobody, Records: r.Records}
	if out.Audience == nil {
		out.Audience = []string{}
	}
	for _, x := range r.Readers {
		w := wire.Reader{Kind: string(x.Kind), ID: x.ID, Name: x.Name, Reads: x.Reads, Policies: x.Policies}
		for _, role := range x.Roles {
			w.Roles = append(w.Roles, string(role))
		}
		out.Readers = append(out.Readers, w)
	}
	return out
}
