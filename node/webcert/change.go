package webcert

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

// Bounds of what is asked for and imported.
const (
	maxNames = 100
	maxChain = 8
	maxPEM   = 48 << 10
)

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", fmt.Errorf(format, args...), store.ErrInvalid)
}

// Request makes a key and a certificate signing request for the names (those of
// this node when none are given), and keeps the key, sealed, until its
// certificate is imported. A request before it is forgotten.
func (s *Service) Request(ctx context.Context, p auth.Principal, names []string, organisation string) (csr []byte, err error) {
	if len(names) == 0 {
		names = s.cfg.Names
	}
	err = s.change(ctx, p, "request a web certificate", func(_ context.Context, tx *store.Tx) (map[string]any, error) {
		names, err := clean(names)
		if err != nil {
			return nil, err
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if csr, err = signingRequest(key, names, organisation); err != nil {
			return nil, err
		}
		r := row{V: rowVersion, Names: names}
		return map[string]any{"names": len(names)}, s.put(tx, asked, key, r)
	})
	return csr, err
}

func signingRequest(key *ecdsa.PrivateKey, names []string, organisation string) ([]byte, error) {
	tmpl := &x509.CertificateRequest{Subject: pkix.Name{CommonName: names[0]}}
	if organisation != "" {
		tmpl.Subject.Organization = []string{organisation}
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			tmpl.IPAddresses = append(tmpl.IPAddresses, ip)
		} else {
			tmpl.DNSNames = append(tmpl.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, tmpl, key)
	if err != nil {
		return nil, invalid("no request can be made of these names (%w)", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// put adds a row with its key, sealed, to a transaction.
func (s *Service) put(tx *store.Tx, place string, key *ecdsa.PrivateKey, r row) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if r.Key, err = s.cfg.Sealer.Seal([]byte(space.Key(place)), der); err != nil {
		return err
	}
	value, err := cbor.Marshal(r)
	if err != nil {
		return err
	}
	tx.Put(space.Key(place), value)
	return nil
}

// clean brings names into one form; an empty list is refused.
func clean(names []string) ([]string, error) {
	var out []string
	for _, n := range names {
		n = strings.ToLower(strings.TrimSuffix(strings.TrimSpace(n), "."))
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	switch {
	case len(out) == 0:
		return nil, invalid("say which names the certificate is for, or set cluster.name")
	case len(out) > maxNames:
		return nil, invalid("%d names are too many, %d are the most", len(out), maxNames)
	}
	return out, nil
}

// Import puts the certificate that answers the newest request in force, on all
// nodes. chain is PEM: the certificate itself and those that signed it, up to the
// root, in any order.
func (s *Service) Import(ctx context.Context, p auth.Principal, chain []byte) (Status, error) {
	err := s.change(ctx, p, "import a web certificate", func(ctx context.Context, tx *store.Tx) (map[string]any, error) {
		certs, err := parseChain(chain)
		if err != nil {
			return nil, err
		}
		pending, err := s.pending(ctx)
		if err != nil {
			return nil, err
		}
		key, err := s.key(asked, pending.Key)
		if err != nil {
			return nil, err
		}
		if certs, err = check(certs, key, pending.Names, s.cfg.Now()); err != nil {
			return nil, err
		}
		r := row{V: rowVersion, Names: pending.Names}
		for _, c := range certs {
			r.Chain = append(r.Chain, c.Raw)
		}
		return map[string]any{"serial": certs[0].SerialNumber.Text(16), "until": stamp(certs[0].NotAfter)}, s.put(tx, inForce, key, r)
	})
	if err != nil {
		return Status{}, err
	}
	if err := s.reload(ctx); err != nil {
		return Status{}, err
	}
	return s.Status(), nil
}

// Remove goes back to the internal certificate.
func (s *Service) Remove(ctx context.Context, p auth.Principal) error {
	err := s.change(ctx, p, "remove the web certificate", func(_ context.Context, tx *store.Tx) (map[string]any, error) {
		tx.Delete(space.Key(inForce))
		return nil, nil
	})
	if err != nil {
		return err
	}
	return s.reload(ctx)
}

// Show is Status for somebody whom the guard lets through.
func (s *Service) Show(ctx context.Context, p auth.Principal) (out Status, err error) {
	req := guard.Request{Principal: p, Action: auth.ClusterRead, Resource: auth.TheSystem, Detail: map[string]any{"what": "web certificate"}}
	err = s.door.Read(ctx, req, func(context.Context, *guard.Permit) (guard.Outcome, error) {
		out = s.Status()
		return guard.Outcome{}, nil
	})
	if err != nil {
		return Status{}, err
	}
	return out, nil
}

// pending is the newest request.
func (s *Service) pending(ctx context.Context) (r row, err error) {
	err = s.store.View(ctx, store.Fresh, func(snap store.Snapshot) error {
		item, err := snap.Get(space.Key(asked))
		if errors.Is(err, store.ErrNotFound) {
			return invalid("nothing was asked for; make a request first with: cloister cert request")
		}
		if err != nil {
			return err
		}
		return cbor.Unmarshal(item.Value, &r)
	})
	return r, err
}

// change commits what do adds, with its outcome on the record.
func (s *Service) change(ctx context.Context, p auth.Principal, what string, do func(context.Context, *store.Tx) (map[string]any, error)) error {
	req := guard.Request{Principal: p, Action: auth.ClusterManage, Resource: auth.TheSystem, Args: what, Detail: map[string]any{"what": what}}
	return s.door.Do(ctx, req, func(ctx context.Context, permit *guard.Permit) (guard.Outcome, error) {
		if err := permit.Covers(auth.ClusterManage, auth.TheSystem); err != nil {
			return guard.Outcome{}, err
		}
		tx := store.NewTx()
		detail, err := do(ctx, tx)
		if err != nil {
			return guard.Outcome{}, err
		}
		if err := s.door.Finish(tx, permit, guard.Outcome{Status: guard.StatusOK, Detail: detail}); err != nil {
			return guard.Outcome{}, err
		}
		_, err = s.store.Apply(ctx, tx)
		return guard.Outcome{}, err
	})
}

// parseChain reads PEM; private keys in it are refused, since they belong nowhere.
func parseChain(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxPEM {
		return nil, invalid("the file has %d bytes, and a chain has %d at most", len(b), maxPEM)
	}
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		if block == nil {
			break
		}
		rest = after
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, invalid("the file holds a private key; take it out, the certificate belongs to the key that cloister cert request made")
		case block.Type != "CERTIFICATE":
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, invalid("a certificate in the file cannot be read (%w)", err)
		}
		out = append(out, c)
	}
	switch {
	case len(out) == 0:
		return nil, invalid("the file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")
	case len(out) > maxChain:
		return nil, invalid("the file holds %d certificates, and a chain has %d at most", len(out), maxChain)
	}
	return out, nil
}

// check says why a chain cannot be put in force; otherwise it returns it in
// order, without its root, which whoever connects has or does not trust.
func check(certs []*x509.Certificate, key *ecdsa.PrivateKey, names []string, now time.Time) ([]*x509.Certificate, error) {
	i := slices.IndexFunc(certs, func(c *x509.Certificate) bool { return key.PublicKey.Equal(c.PublicKey) })
	if i < 0 {
		return nil, invalid("no certificate in the file is of the key of the newest request; let the authority sign what cloister cert request wrote last")
	}
	leaf := certs[i]
	switch {
	case now.After(leaf.NotAfter):
		return nil, invalid("the certificate ran out at %s; let the authority sign a new one", stamp(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return nil, invalid("the certificate begins at %s, and here it is %s; wait until then, or set this machine's clock right", stamp(leaf.NotBefore), stamp(now))
	}
	for _, n := range names {
		if leaf.VerifyHostname(n) != nil {
			return nil, invalid("the certificate is not for %s, which was asked for; let the authority keep the request's names", n)
		}
	}
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	hasRoot := false
	for _, c := range certs {
		if c == leaf {
			continue
		}
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			roots.AddCert(c)
			hasRoot = true
		} else {
			between.AddCert(c)
		}
	}
	if !hasRoot {
		return nil, invalid("the chain is not whole: append the certificates that signed it, up to the authority's own root, which signed itself")
	}
	found, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now})
	if err != nil {
		return nil, invalid("the chain does not hold (%w)", err)
	}
	return found[0][:len(found[0])-1], nil
}
