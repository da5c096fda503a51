package cluster

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
)

// Token is what an administrator carries to a new machine. It is good once, and
// for half an hour at most.
type Token struct {
	Cluster   string   `cbor:"1,keyasint"`
	Addresses []string `cbor:"2,keyasint"` // peer addresses of nodes that can take the joiner in
	Pin       []byte   `cbor:"3,keyasint"` // SHA-256 of the authority's certificate
	Secret    []byte   `cbor:"4,keyasint"` // 32 random bytes
	Expires   int64    `cbor:"5,keyasint"` // Unix seconds
}

// tokenPrefix begins every token, so that it is known wherever it is pasted.
const tokenPrefix = "cj_"

const secretBytes = 32

// String is the token as it is handed over. It is a secret.
func (t Token) String() string {
	b, err := cbor.Marshal(t)
	if err != nil {
		panic(err) // plain fields always encode
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(b)
}

// ParseToken reads a token.
func ParseToken(s string) (Token, error) {
	bad := fmt.Errorf("%w: that is not a whole invitation; copy all of what cloister node invite printed", store.ErrInvalid)
	text, ok := strings.CutPrefix(strings.TrimSpace(s), tokenPrefix)
	if !ok || len(text) > 8<<10 {
		return Token{}, bad
	}
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Token{}, bad
	}
	var t Token
	if err := strict().Unmarshal(b, &t); err != nil || len(t.Pin) != sha256.Size || len(t.Secret) != secretBytes || t.Cluster == "" || len(t.Addresses) == 0 {
		return Token{}, bad
	}
	return t, nil
}

// Pin is what a token says of the cluster's authority.
func Pin(ca *x509.Certificate) []byte {
	sum := sha256.Sum256(ca.Raw)
	return sum[:]
}

// JoinRequest is what a new node says.
type JoinRequest struct {
	Version int    `cbor:"1,keyasint"`
	Secret  []byte `cbor:"2,keyasint"`
	Node    string `cbor:"3,keyasint"` // the name that it wants
	Address string `cbor:"4,keyasint"` // its peer address, as the others will dial it
	Program string `cbor:"5,keyasint"`
	Newest  int    `cbor:"6,keyasint"` // data formats that its program knows
	Oldest  int    `cbor:"7,keyasint"`
	Clock   int64  `cbor:"8,keyasint"` // its time, Unix milliseconds
}

// JoinReply is what a new node needs to become one of the cluster.
type JoinReply struct {
	Refused string            `cbor:"1,keyasint,omitempty"`
	Cluster string            `cbor:"2,keyasint"`
	Service string            `cbor:"3,keyasint"` // the service's name, for certificates
	Joined  int64             `cbor:"4,keyasint"`
	Seal    []byte            `cbor:"5,keyasint"` // the keys: see auth/seal
	Members map[string]string `cbor:"6,keyasint"` // peer address by node
}

const (
	joinVersion = 1
	joinWait    = 20 * time.Second
	// maxSkew is how far a new node's clock may be off.
	maxSkew = 2 * time.Minute
)

// Joiner decides about a node that wants to join. It is called with what the
// other side sent; its program and clock have been found good.
type Joiner func(ctx context.Context, r JoinRequest) (JoinReply, error)

// HandleJoin says who takes new nodes in. Until it is called they are refused.
func (p *Port) HandleJoin(j Joiner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.joiner = j
}

// takeJoin serves one join exchange.
func (p *Port) takeJoin(c *tls.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(joinWait))
	var r JoinRequest
	if err := readFrame(c, maxHello, &r); err != nil {
		p.refused(c.NetConn(), err)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), joinWait)
	defer cancel()
	reply, err := p.decide(ctx, r)
	if err != nil {
		p.refused(c.NetConn(), err)
		reply = JoinReply{Refused: sentence(err)}
	}
	_ = writeFrame(c, reply) // it may have gone
}

func (p *Port) decide(ctx context.Context, r JoinRequest) (JoinReply, error) {
	p.mu.Lock()
	join := p.joiner
	p.mu.Unlock()
	theirs := hello{Node: r.Node, Program: r.Program, Newest: r.Newest, Oldest: r.Oldest}
	skew := p.cfg.Now().Sub(time.UnixMilli(r.Clock))
	switch {
	case r.Version != joinVersion:
		return JoinReply{}, fmt.Errorf("%w: node %s asks in a way that this program (%s) does not know; install the same program on both", ErrRefused, r.Node, p.cfg.Program)
	case join == nil:
		return JoinReply{}, fmt.Errorf("%w: node %s is starting; try again in a moment", errNotYet, p.cfg.Node)
	case skew.Abs() > maxSkew:
		return JoinReply{}, fmt.Errorf("%w: the clock of the new node says %s and the cluster's %s; set the clocks of both right, then try again",
			ErrRefused, stamp(time.UnixMilli(r.Clock)), stamp(p.cfg.Now()))
	}
	if err := p.hello().fits(theirs); err != nil {
		return JoinReply{}, err
	}
	return join(ctx, r)
}

// Join asks the nodes that a token names to take this one in, and returns what
// they gave. A refusal ends it: the token may be used up by it.
func Join(ctx context.Context, t Token, r JoinRequest) (JoinReply, error) {
	r.Version, r.Secret, r.Newest, r.Oldest, r.Clock = joinVersion, t.Secret, store.Format, store.OldestFormat, time.Now().UnixMilli()
	var failed error
	for _, address := range t.Addresses {
		reply, err := joinAt(ctx, address, t, r)
		switch {
		case err == nil && reply.Refused == "":
			return reply, nil
		case err == nil:
			return reply, fmt.Errorf("%w: %s", ErrRefused, reply.Refused)
		}
		failed = errors.Join(failed, err)
	}
	return JoinReply{}, fmt.Errorf("no node of the cluster could be asked (%w)", firstOf(failed))
}

// firstOf keeps an error of several lines to its first.
func firstOf(err error) error {
	if list, ok := err.(interface{ Unwrap() []error }); ok && len(list.Unwrap()) > 0 {
		return firstOf(list.Unwrap()[0])
	}
	return err
}

func joinAt(ctx context.Context, address string, t Token, r JoinRequest) (JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinWait)
	defer cancel()
	dialer := net.Dialer{Timeout: dialWait}
	raw, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return JoinReply{}, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(joinWait))
	c := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{JoinProtocol},
		InsecureSkipVerify: true, // the pin and VerifyConnection do more
		VerifyConnection:   func(s tls.ConnectionState) error { return pinned(s.PeerCertificates, t, time.Now()) },
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return JoinReply{}, fmt.Errorf("ask %s: %w", address, err)
	}
	if err := writeFrame(c, r); err != nil {
		return JoinReply{}, err
	}
	var reply JoinReply
	if err := readFrame(c, maxFrame, &reply); err != nil {
		return JoinReply{}, fmt.Errorf("%s gave no answer: %w; the invitation may be used up, so make a new one with: cloister node invite", address, err)
	}
	return reply, nil
}

// pinned checks that the other side is a node of the cluster that the token is
// of: the authority by its hash, the node's certificate by the authority.
func pinned(chain []*x509.Certificate, t Token, now time.Time) error {
	for _, ca := range chain {
		if subtle.ConstantTimeCompare(Pin(ca), t.Pin) != 1 {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		_, err := verify(chain[0], roots, t.Cluster, now)
		return err
	}
	return fmt.Errorf("%w: at that address is a node of another cluster than the invitation's; check the address, or ask for an invitation of that cluster", ErrRefused)
}
