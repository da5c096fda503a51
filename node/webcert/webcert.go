// Package webcert is the certificate that browsers and programs see: the
// organisation's own while it is valid, the internal one otherwise.
//
// It promises: every change passes the guard and is on the record; a private key
// is kept and replicated sealed only; a certificate is taken only when it is of
// the key that asked for it, for every name that was asked for, within its time,
// and its chain is whole; it is in force on every node at the next handshake,
// without a restart; when it runs out, the internal one takes its place and the
// log says so. It may import store, auth and what lies below them.
package webcert

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/store"
)

const space store.Space = "S/webcert/"

// The keys of the store, which also bind what is sealed to its place.
const (
	inForce = "certificate"
	asked   = "request"
)

// Sealer seals private keys. *seal.Keys is one.
type Sealer interface {
	Seal(aad, plain []byte) ([]byte, error)
	Open(aad, sealed []byte) ([]byte, error)
}

// Config is what a Service works with. Internal and Sealer are required to serve;
// Store and Door come with Attach.
type Config struct {
	Internal func() (*tls.Certificate, error) // the internal certificate, renewed when it is time
	Sealer   Sealer
	Copy     string // file that keeps what is in force, sealed, for the start; "" = none
	Names    []string
	Now      func() time.Time // time.Now when nil
	Logger   *slog.Logger
}

// Service chooses the certificate of each handshake. It is safe for concurrent use.
type Service struct {
	cfg   Config
	log   *slog.Logger
	store store.Store
	door  guard.Door

	mu      sync.RWMutex // guards all below
	own     *tls.Certificate
	version store.Version
}

// row is what the store holds, under inForce or asked.
type row struct {
	V     int      `cbor:"1,keyasint"`
	Key   []byte   `cbor:"2,keyasint"` // PKCS #8, sealed
	Chain [][]byte `cbor:"3,keyasint"` // DER, the certificate itself first; none in a request
	Names []string `cbor:"4,keyasint"` // asked for
}

const rowVersion = 1

// New serves what Copy holds, or the internal certificate.
func New(cfg Config) *Service {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Service{cfg: cfg, log: cfg.Logger}
	if cfg.Copy == "" {
		return s
	}
	b, err := os.ReadFile(cfg.Copy)
	if err != nil {
		return s // the store has it
	}
	if c, err := s.open(b); err == nil {
		s.own = c
	}
	return s
}

// Get is tls.Config.GetCertificate. Whoever asks for a name that the
// organisation's certificate is not for gets the internal one: programs that
// trust the internal authority go on to reach each node by its own name.
func (s *Service) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.RLock()
	own := s.own
	s.mu.RUnlock()
	if own == nil || s.over(own.Leaf) {
		return s.cfg.Internal()
	}
	name := hello.ServerName
	if name == "" && hello.Conn != nil {
		name, _, _ = net.SplitHostPort(hello.Conn.LocalAddr().String())
	}
	if own.Leaf.VerifyHostname(name) != nil {
		return s.cfg.Internal()
	}
	return own, nil
}

func (s *Service) over(c *x509.Certificate) bool {
	now := s.cfg.Now()
	return now.Before(c.NotBefore) || now.After(c.NotAfter)
}

// Attach gives the service the store and the door; Run follows the store.
func (s *Service) Attach(ctx context.Context, st store.Store, door guard.Door) error {
	s.store, s.door = st, door
	return s.reload(ctx)
}

func (s *Service) reload(ctx context.Context) error {
	var value []byte
	var version store.Version
	err := s.store.View(ctx, store.Local, func(snap store.Snapshot) error {
		version = snap.Version()
		item, err := snap.Get(space.Key(inForce))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		value = item.Value
		return err
	})
	if err != nil {
		return fmt.Errorf("read the organisation's certificate: %w", err)
	}
	s.take(value, version)
	return nil
}

// take puts a row in force; none takes the organisation's certificate away.
func (s *Service) take(value []byte, version store.Version) {
	var c *tls.Certificate
	if value != nil {
		var err error
		if c, err = s.open(value); err != nil {
			s.log.Error("the organisation's certificate cannot be used, so the internal one is; import it again with: cloister cert import", "err", err)
		}
	}
	s.keep(value)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.own, s.version = c, version
}

// keep copies what is in force beside the data, for the next start.
func (s *Service) keep(value []byte) {
	if s.cfg.Copy == "" {
		return
	}
	var err error
	if value == nil {
		if err = os.Remove(s.cfg.Copy); errors.Is(err, os.ErrNotExist) {
			err = nil
		}
	} else if err = os.WriteFile(s.cfg.Copy+".new", value, 0o600); err == nil {
		err = os.Rename(s.cfg.Copy+".new", s.cfg.Copy)
	}
	if err != nil {
		s.log.Warn("the organisation's certificate could not be noted down for the next start", "err", err)
	}
}

// open unseals a row into a certificate.
func (s *Service) open(value []byte) (*tls.Certificate, error) {
	var r row
	if err := cbor.Unmarshal(value, &r); err != nil || len(r.Chain) == 0 {
		return nil, fmt.Errorf("it is damaged: %w", errors.Join(store.ErrInvalid, err))
	}
	key, err := s.key(inForce, r.Key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(r.Chain[0])
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: r.Chain, PrivateKey: key, Leaf: leaf}, nil
}

func (s *Service) key(place string, sealed []byte) (*ecdsa.PrivateKey, error) {
	der, err := s.cfg.Sealer.Open([]byte(space.Key(place)), sealed)
	if err != nil {
		return nil, err
	}
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	key, ok := k.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%w: the key is of a kind that this program does not make", store.ErrInvalid)
	}
	return key, nil
}

// How long before its end a certificate is warned of, and how often.
const (
	warnBefore = 14 * 24 * time.Hour
	warnEvery  = 12 * time.Hour
)

// Run follows the store and warns in the log, until the context ends.
func (s *Service) Run(ctx context.Context) error {
	var warns sync.WaitGroup
	warns.Go(func() { s.warn(ctx) })
	defer warns.Wait()
	for {
		err := s.watch(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, store.ErrCompacted) {
			return fmt.Errorf("follow the organisation's certificate: %w", err)
		}
		if err := s.reload(ctx); err != nil {
			return err
		}
	}
}

func (s *Service) watch(ctx context.Context) error {
	s.mu.RLock()
	from := s.version
	s.mu.RUnlock()
	for change, err := range s.store.Watch(ctx, space.Prefix(inForce), from) {
		if err != nil {
			return err
		}
		for _, w := range change.Writes {
			s.take(w.Value, change.Version)
		}
	}
	return ctx.Err()
}

func (s *Service) warn(ctx context.Context) {
	tick := time.NewTicker(warnEvery)
	defer tick.Stop()
	for {
		if w := s.Status().Warning; w != "" {
			s.log.Warn("the certificate that browsers see: " + w)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Status says which certificate is in force.
type Status struct {
	Organisation bool // the organisation's is installed and valid
	Names        []string
	Issuer       string
	From, Until  time.Time
	Warning      string // what to do, a sentence; empty = nothing
}

// Status says which certificate is in force. It is no secret: every handshake
// shows it.
func (s *Service) Status() Status {
	s.mu.RLock()
	own := s.own
	s.mu.RUnlock()
	internal := Status{}
	if c, err := s.cfg.Internal(); err == nil {
		internal = statusOf(c.Leaf)
	}
	if own == nil {
		return internal
	}
	if s.over(own.Leaf) {
		internal.Warning = fmt.Sprintf("The organisation's certificate ran out at %s, so the internal one is shown: import a new one with cloister cert import.", stamp(own.Leaf.NotAfter))
		if s.cfg.Now().Before(own.Leaf.NotBefore) {
			internal.Warning = fmt.Sprintf("The organisation's certificate begins at %s, so the internal one is shown until then.", stamp(own.Leaf.NotBefore))
		}
		return internal
	}
	out := statusOf(own.Leaf)
	out.Organisation = true
	if own.Leaf.NotAfter.Sub(s.cfg.Now()) < warnBefore {
		out.Warning = fmt.Sprintf("The organisation's certificate runs out at %s: ask for a new one with cloister cert request.", stamp(own.Leaf.NotAfter))
	}
	return out
}

func statusOf(c *x509.Certificate) Status {
	out := Status{Names: append([]string{}, c.DNSNames...), Issuer: c.Issuer.CommonName, From: c.NotBefore, Until: c.NotAfter}
	for _, ip := range c.IPAddresses {
		out.Names = append(out.Names, ip.String())
	}
	return out
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }
