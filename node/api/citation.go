package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
)

// CitationInput names cited bytes.
type CitationInput struct {
	Source  string `query:"source" required:"true" maxLength:"64"`
	Record  string `query:"record" required:"true" maxLength:"2048"`
	Version uint64 `query:"version" required:"true"`
	Start   int64  `query:"start" required:"true" minimum:"0"`
	End     int64  `query:"end" required:"true" minimum:"1"`
}

func (a *API) citationRoutes() {
	read := operation(http.MethodGet, "/api/v1/citations", "read-citation", "Read a citation's bytes again, at the version that was cited")
	handle(a, read, func(ctx context.Context, p auth.Principal, in *CitationInput) (*body[wire.Passage], error) {
		out, err := a.cfg.Cited(ctx, p, *in)
		if err != nil {
			return nil, a.refusedFirst(ctx, p, auth.SourceRead, in.Source, err)
		}
		return &body[wire.Passage]{out}, nil
	})
}
