package api

import (
	"context"
	"net/http"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/node/api/wire"
	"github.com/cloister-os/cloister/node/webcert"
)

var errNoCertificates = problem(http.StatusServiceUnavailable, "This node takes no certificates.", "")

func (a *API) certificateRoutes() {
	show := operation(http.MethodGet, "/api/v1/certificate", "get-certificate", "The certificate that browsers and programs see")
	handle(a, show, func(ctx context.Context, p auth.Principal, _ *none) (*body[wire.Certificate], error) {
		if a.cfg.Certificate == nil {
			return nil, errNoCertificates
		}
		s, err := a.cfg.Certificate.Show(ctx, p)
		if err != nil {
			return nil, err
		}
		return &body[wire.Certificate]{wireCertificate(s)}, nil
	})
	request := operation(http.MethodPost, "/api/v1/certificate/request", "request-certificate", "Make a key and a signing request for the organisation's authority")
	request.DefaultStatus = http.StatusCreated
	handle(a, request, func(ctx context.Context, p auth.Principal, in *body[wire.CertificateNames]) (*body[wire.SigningRequest], error) {
		if a.cfg.Certificate == nil {
			return nil, errNoCertificates
		}
		csr, err := a.cfg.Certificate.Request(ctx, p, in.Body.Names, in.Body.Organisation)
		if err != nil {
			return nil, err
		}
		return &body[wire.SigningRequest]{wire.SigningRequest{Request: string(csr)}}, nil
	})
	put := operation(http.MethodPut, "/api/v1/certificate", "import-certificate", "Put the organisation's certificate in force on all nodes")
	handle(a, put, func(ctx context.Context, p auth.Principal, in *body[wire.CertificateChain]) (*body[wire.Certificate], error) {
		if a.cfg.Certificate == nil {
			return nil, errNoCertificates
		}
		s, err := a.cfg.Certificate.Import(ctx, p, []byte(in.Body.Chain))
		if err != nil {
			return nil, err
		}
		return &body[wire.Certificate]{wireCertificate(s)}, nil
	})
	remove := operation(http.MethodDelete, "/api/v1/certificate", "remove-certificate", "Go back to the internal certificate")
	handle(a, remove, func(ctx context.Context, p auth.Principal, _ *none) (*none, error) {
		if a.cfg.Certificate == nil {
			return nil, errNoCertificates
		}
		return nil, a.cfg.Certificate.Remove(ctx, p)
	})
}

func wireCertificate(s webcert.Status) wire.Certificate {
	return wire.Certificate{
		Organisation: s.Organisation, Names: full(s.Names), Issuer: s.Issuer, From: s.From.UTC(), Until: s.Until.UTC(), Warning: s.Warning,
	}
}
