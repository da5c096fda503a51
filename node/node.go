// Package node puts a node together: it opens the rooms in order, joins them,
// serves them on one address, and closes them in reverse.
//
// It promises: what can be refused is refused before anything starts; one
// process holds the data folder; a failure that makes the store's word worthless
// ends the process; a stop is orderly, and a kill loses nothing. It may import
// every room below it.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/agents/library"
	"github.com/cloister-os/cloister/agents/memory"
	"github.com/cloister-os/cloister/agents/run"
	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/audit"
	"github.com/cloister-os/cloister/auth/budget"
	"github.com/cloister-os/cloister/auth/guard"
	"github.com/cloister-os/cloister/auth/people"
	"github.com/cloister-os/cloister/auth/policy"
	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/auth/session"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/search"
	"github.com/cloister-os/cloister/models/engine"
	"github.com/cloister-os/cloister/models/fleet"
	"github.com/cloister-os/cloister/models/gateway"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/models/registry"
	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/node/cluster"
	"github.com/cloister-os/cloister/node/cluster/roster"
	"github.com/cloister-os/cloister/node/config"
	"github.com/cloister-os/cloister/node/health"
	"github.com/cloister-os/cloister/node/rescue"
	"github.com/cloister-os/cloister/node/webcert"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/blob/exchange"
	"github.com/cloister-os/cloister/store/blob/replica"
	"github.com/cloister-os/cloister/store/consensus"
)

// Node is one running node.
type Node struct {
	cfg     config.Config
	version string
	log     *slog.Logger
	started time.Time
	rooms   *rooms

	disk     *disk
	listener net.Listener
	front    front
	place    cluster.Place
	placeMu  sync.Mutex    // guards place.Members once the node runs
	port     *cluster.Port // nil: the peer port is closed
	peers    http.ServeMux // what other nodes may ask; add to it before or after it is served
	peerCert *seal.NodeCert
	web      *webcert.Service // the certificate that browsers see
	roster   atomic.Pointer[roster.Roster]
	keys     *seal.Keys
	ring     *seal.Keyring // this node's data keys
	rotation *seal.Rotation
	ca       *seal.CA
	store    *consensus.Node
	formats  atomic.Pointer[consensus.Node] // the store, for the peer port, which is there before it
	clock    *store.Clock                   // leader time
	others   others
	policies *policy.Policies
	ledger   *budget.Ledger
	guard    *guard.Guard
	audit    *audit.Log
	backups  *rescue.Service
	sessions *session.Service
	people   *people.Service
	blobs    *blob.Store
	exchange *exchange.Client
	replica  *replica.Replica
	engine   *engine.Engine
	fleet    *fleet.Fleet
	packs    *pack.Service
	registry *registry.Registry
	gateway  *gateway.Gateway
	sources  *connect.Service
	index    *search.Index
	answers  *answer.Answerer
	memories *memory.Service
	runs     *run.Engine
	setup    *Setup // nil when setup is complete
	server   *http.Server
	requests health.Requests

	freeBytes func(dir string) (int64, error) // tests fill disks with it; nil = ask the disk
	certLife  time.Duration                   // tests shorten it; 0 = a day
}

// Open starts a node and returns when it is ready to be served. After an error
// nothing is left open; otherwise Close it whatever happens after.
func Open(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (*Node, error) {
	n := newNode(cfg, version, log)
	return n, n.start(ctx)
}

func newNode(cfg config.Config, version string, log *slog.Logger) *Node {
	return &Node{cfg: cfg, version: version, log: log, started: time.Now(), rooms: newRooms(log)}
}

// start opens every room, or none.
func (n *Node) start(ctx context.Context) error {
	for _, open := range []func(context.Context) error{
		n.checkSettings, n.openListener, n.openDisk, n.openPlace, n.openSeal, n.openFront, n.openPort, n.openStore, n.openGovernance, n.openRoster, n.openBlobs, n.openBackups, n.openModels, n.openGateway, n.openGraph, n.openMemory, n.openRuns, n.openRotation, n.openDoor,
	} {
		if err := open(ctx); err != nil {
			return errors.Join(err, n.rooms.Close())
		}
	}
	return nil
}

// checkSettings finds what the settings' own package cannot, before anything is made.
func (n *Node) checkSettings(context.Context) error {
	if n.cfg.Backup.Recovery == "" {
		return nil
	}
	if err := seal.CheckRecoveryKey(n.cfg.Backup.Recovery); err != nil {
		return fmt.Errorf("backup.recovery: %w", err)
	}
	return nil
}

// Serve answers requests until the context ends or the node cannot go on.
func (n *Node) Serve(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-n.store.Fatal():
		return fmt.Errorf("the store failed, so the node stops: %w", err)
	case err := <-n.rooms.fatal:
		return fmt.Errorf("the node cannot go on: %w", err)
	}
}

// Close stops the node in the reverse order of its start.
func (n *Node) Close() error { return n.rooms.Close() }

// URL is where the node is reached.
func (n *Node) URL() string {
	host, port := or(reached(n.cfg.Listen, n.place.Address), "localhost"), n.listener.Addr().(*net.TCPAddr).Port
	return "https://" + net.JoinHostPort(host, fmt.Sprint(port))
}

func (n *Node) openDisk(context.Context) (err error) {
	if n.disk, err = openDisk(n.cfg.Data); err != nil {
		return err
	}
	n.rooms.opened("the data folder", n.disk.Close)
	return n.disk.recovered()
}

func (n *Node) openListener(context.Context) (err error) {
	if n.listener, err = listen(n.cfg.Listen); err == nil {
		n.rooms.opened("the listener", func() error { return ignoreClosed(n.listener.Close()) })
	}
	return err
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (n *Node) openSeal(ctx context.Context) (err error) {
	if err := n.disk.sealed(); err != nil {
		return err
	}
	if n.keys, err = n.openKeys(ctx); err != nil {
		return err
	}
	stored, err := n.disk.stored()
	if err != nil {
		return err
	}
	if n.ring, err = n.keys.Keyring(n.cfg.Node, !stored); err != nil {
		return err
	}
	if n.ca, err = n.keys.CA(); err != nil {
		return err
	}
	if err := n.keepFront(); err != nil {
		return err
	}
	if err := writeFile(n.disk.ca(), n.ca.PEM(), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", n.disk.ca(), reason(err))
	}
	return nil
}

func (n *Node) openStore(ctx context.Context) (err error) {
	cfg := consensus.Config{
		Dir: n.cfg.Data, NodeID: n.cfg.Node, Logger: n.log, ReserveBytes: n.cfg.Disk.ReserveBytes, FreeBytes: n.freeBytes,
		Address: n.place.Address, Found: n.place.Founder, Program: n.version, Ring: n.dataRing(),
		Retention: n.cfg.History.Keep,
	}
	if n.port != nil {
		cfg.Peers = n.port
	}
	if n.store, err = consensus.Open(ctx, cfg); err != nil {
		return err
	}
	n.formats.Store(n.store)
	n.rooms.opened("the store", n.store.Close)
	n.rooms.runs("the announcement of this node", n.announce)
	if n.port != nil {
		n.front.enter(phase{name: "waiting", sentence: "This node waits for the cluster: until most of its nodes are running and reach one another, nothing can be read or written."})
	}
	select {
	case <-n.store.Ready():
		return nil
	case err := <-n.store.Fatal():
		return err
	case err := <-n.rooms.fatal:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// openGovernance opens policy, price, record, door and sessions.
func (n *Node) openGovernance(ctx context.Context) (err error) {
	n.openClock()
	if n.policies, err = policy.New(ctx, n.store, n.log); err != nil {
		return err
	}
	if err := n.policies.Seed(ctx); err != nil {
		return err
	}
	n.rooms.runs("policies", n.policies.Run)
	if n.ledger, err = budget.NewLedger(ctx, n.store, n.log, n.clock.Now); err != nil {
		return err
	}
	n.rooms.runs("budgets", n.ledger.Run)
	n.audit, err = audit.New(audit.Config{
		Store: n.store, Signer: n.keys.LogSigner(), VerifierKey: n.keys.LogVerifierKey(), Sealer: n.keys, Logger: n.log, Leads: n.store.Leads,
	})
	if err != nil {
		return err
	}
	n.rooms.runs("the audit log", n.audit.Run)
	n.rooms.runs("new starter policies", func(ctx context.Context) error {
		return n.policies.RunAmend(ctx, n.store.Leads, n.recordAmended)
	})
	n.guard, err = guard.New(guard.Config{
		Store: n.store, Policies: n.policies, Ledger: n.ledger, Node: n.cfg.Node, Logger: n.log, Now: n.clock.Now, Leads: n.store.Leads,
	})
	if err != nil {
		return err
	}
	n.rooms.opened("the guard", n.guard.Close)
	n.rooms.runs("the guard's sweep", n.guard.Run)
	n.people, err = people.New(people.Config{
		Store: n.store, Door: n.guard, Sealer: n.keys, Node: n.cfg.Node, Now: n.clock.Now, Logger: n.log, LocalAdministrator: session.LocalAdministrator,
	})
	if err != nil {
		return err
	}
	n.rooms.opened("the directories", n.people.Close)
	n.sessions, err = session.New(session.Config{
		Store: n.store, Door: n.guard, Node: n.cfg.Node, Logger: n.log, Idle: n.cfg.Session.Idle, Life: n.cfg.Session.Life,
		Now: n.clock.Now, Recent: n.guard.Recent, Leads: n.store.Leads, Sealer: n.keys, People: n.people,
	})
	if err != nil {
		return err
	}
	n.rooms.runs("sessions", n.sessions.Run)
	return nil
}

func (n *Node) openRuns(context.Context) (err error) {
	n.runs, err = run.New(run.Config{
		Store: n.store, Door: n.guard, Blobs: n.blobs, Node: n.cfg.Node, Agents: []run.Agent{library.Answering(n.answers, n.store, n.guard, n.memories)}, Release: library.Release(n.store, n.guard, n.memories), Asked: library.Asked(n.memories),
		Rights: n.sessions.Current, Parallel: n.cfg.Runs.Parallel, Longest: n.cfg.Runs.Longest, Keep: n.cfg.Runs.Keep, Logger: n.log,
		Now: n.clock.Now, Leads: n.store.Leads, Leave: n.leave(),
	})
	if err != nil {
		return err
	}
	n.rooms.opened("the runs", n.runs.Close)
	n.rooms.runs("taking over runs", n.runs.Resume)
	return nil
}

// openDoor joins everything behind one handler.
func (n *Node) openDoor(ctx context.Context) error {
	h, err := n.handler()
	if err != nil {
		return err
	}
	if n.setup, err = n.offerSetup(ctx); err != nil {
		return err
	}
	if n.setup != nil {
		n.rooms.runs("the end of setup", n.awaitSetup)
	}
	n.front.up.Store(&h)
	return nil
}

// ask starts a run that answers a question, as the next turn of a conversation
// when one is named.
func (n *Node) ask(ctx context.Context, p auth.Principal, key string, in run.ID, question string) (id, conversation run.ID, err error) {
	question = strings.TrimSpace(question)
	if question == "" || len(question) > answer.MaxQuestionBytes {
		return "", "", fmt.Errorf("%w: %w", store.ErrInvalid, answer.ErrQuestion)
	}
	q := library.Question{Question: answer.Question{Text: question}}
	if n.memories.Recognise(ctx, p, question) {
		said, err := n.memories.Hold(ctx, p, key, question)
		if err != nil {
			return "", "", err
		}
		q = library.Question{Memory: said} // the run does not keep the words
	}
	return n.runs.Begin(ctx, p, key, in, library.AnswerName, q)
}

func (n *Node) handler() (http.Handler, error) {
	a, err := api.New(api.Config{
		Store: n.store, Sessions: n.sessions, People: n.people, Door: n.guard, Guard: n.guard, Policies: n.policies, Ledger: n.ledger,
		Records: guard.Records{Guard: n.guard, Log: n.audit}, Packs: n.packs, Uploads: n.disk.uploads(), Runs: n.runs, Nodes: n.roster.Load(), Certificate: n.web, Backups: n.backups, Finalise: n.finalise,
		Sources: n.sources, Cited: n.cited, Ask: n.ask, Memories: n.memories, Status: n.status, SetupDone: n.setupDone, Seal: sealing{n}, Logger: n.log,
	})
	if err != nil {
		return nil, err
	}
	pages, err := n.pages()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", pages)
	mux.Handle("/api/", a)
	mux.Handle("/v1/", n.gateway.Handler(n.sessions.Authenticate))
	mux.HandleFunc("GET /metrics", n.metrics)
	mux.HandleFunc("GET /healthz", health.Live)
	mux.HandleFunc("GET /readyz", health.Ready(n.checks()...))
	return api.Versions(n.store, api.NewLoad().Shed(n.sessions.Middleware(mux))), nil
}

// every is the interval as package connect wants it: negative = never.
func every(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (n *Node) checks() []health.Check {
	return []health.Check{{Name: "store", Ready: n.store.Healthy}}
}

// setupDone removes setup.json: its code is worth nothing now.
func (n *Node) setupDone() {
	if err := n.dropSetup(); err != nil {
		n.log.Warn("setup.json could not be removed", "err", err)
	}
}
