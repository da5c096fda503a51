package browser

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

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
	"github.com/cloister-os/cloister/graph"
	"github.com/cloister-os/cloister/graph/answer"
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/models/pack"
	"github.com/cloister-os/cloister/node/api"
	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/blob"
	"github.com/cloister-os/cloister/store/storetest"
	"github.com/cloister-os/cloister/ui"
	"github.com/cloister-os/cloister/ui/room"
	"github.com/cloister-os/cloister/ui/uitest"
)

// service is a service name: a TCP proxy in front of the node that it leads to,
// as a virtual IP or a load balancer is.
type service struct {
	listener net.Listener

	mu    sync.Mutex // guards all below
	to    string     // "" = nowhere
	conns map[net.Conn]bool
}

func newService(t *testing.T) *service {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &service{listener: l, conns: map[net.Conn]bool{}}
	go s.serve()
	t.Cleanup(func() { l.Close(); s.lead("") })
	return s
}

func (s *service) serve() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		go s.carry(c)
	}
}

func (s *service) carry(c net.Conn) {
	defer c.Close()
	s.mu.Lock()
	to := s.to
	s.mu.Unlock()
	if to == "" {
		return
	}
	other, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer other.Close()
	s.mu.Lock()
	s.conns[c], s.conns[other] = true, true
	s.mu.Unlock()
	go func() { _, _ = io.Copy(other, c); other.Close() }()
	_, _ = io.Copy(c, other)
}

// lead moves the name to another node: what went to the one before is cut.
func (s *service) lead(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.to = to
	for c := range s.conns {
		c.Close()
	}
	clear(s.conns)
}

// pace holds the answer back at one step, where a test wants it.
type pace struct {
	mu   sync.Mutex
	hold chan struct{} // closed when the step may go on
	at   chan string   // the nodes that came to the step
}

func (p *pace) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold, p.at = make(chan struct{}), make(chan string, 8)
}

func (p *pace) goOn() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.hold)
}

func (p *pace) wait(ctx context.Context, node string) error {
	p.mu.Lock()
	hold, at := p.hold, p.at
	p.mu.Unlock()
	at <- node
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answering is the agent that answers, at the test's pace.
func (p *pace) answering(node string) run.Agent {
	const step = "step"
	quick := func(context.Context, *run.Call) (string, error) { return step, nil }
	return run.Agent{Name: library.AnswerName, Revision: "test", Steps: []run.Step{
		run.Func("understand", run.Read, quick),
		run.Func("gather", run.Read, quick),
		run.Func("compose", run.Read, func(ctx context.Context, _ *run.Call) (string, error) { return step, p.wait(ctx, node) }),
		run.Func("verify", run.Read, quick),
		run.Func("cite", run.Read, func(context.Context, *run.Call) (answer.Answer, error) {
			return answer.Answer{Outcome: answer.Stated, Answer: "The depot opens at **seven**."}, nil
		}),
	}}
}

// nothing is a connector to a system that holds nothing.
type nothing struct{}

func (nothing) Kind() string                                                           { return "files" }
func (nothing) Check(context.Context, *guard.Permit, graph.Source) error               { return nil }
func (nothing) Scan(context.Context, *guard.Permit, graph.Source, *connect.Sink) error { return nil }

// member is one of several nodes that share a store, as far as a browser sees it.
type member struct {
	name     string
	store    *storetest.Follower
	sessions *session.Service
	server   *httptest.Server
	runs     *run.Engine
	stop     context.CancelFunc
}

func join(t *testing.T, st store.Store, keys *seal.Keys, name string, p *pace) *member {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	m := &member{name: name, store: storetest.NewFollower(st), stop: stop}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	policies, err := policy.New(ctx, m.store, nil)
	must(err)
	must(policies.Seed(ctx))
	go policies.Run(ctx)
	ledger, err := budget.NewLedger(ctx, m.store, nil, nil)
	must(err)
	go ledger.Run(ctx)
	g, err := guard.New(guard.Config{Store: m.store, Policies: policies, Ledger: ledger, Node: name})
	must(err)
	m.sessions, err = session.New(session.Config{Store: m.store, Door: g, Node: name, Recent: g.Recent})
	must(err)
	log, err := audit.New(audit.Config{Store: m.store, Signer: keys.LogSigner(), VerifierKey: keys.LogVerifierKey()})
	must(err)
	blobs, err := blob.Open(t.TempDir())
	must(err)
	sources, err := connect.New(connect.Config{
		Store: m.store, Blobs: blobs, Door: g, Connectors: []connect.Connector{nothing{}}, Every: -1, Node: auth.Principal{Kind: auth.System, ID: name},
	})
	must(err)
	packs, err := pack.New(pack.Config{Store: m.store, Guard: g, Temp: t.TempDir()})
	must(err)
	m.runs, err = run.New(run.Config{
		Store: m.store, Door: g, Blobs: blobs, Node: name, Agents: []run.Agent{p.answering(name)}, Rights: m.sessions.Current, Lease: 4 * time.Second,
	})
	must(err)
	go m.runs.Resume(ctx)
	memories, err := memory.New(memory.Config{Store: m.store, Door: g, Sealer: keys})
	must(err)
	directories, err := people.New(people.Config{Store: m.store, Door: g, Sealer: keys})
	must(err)
	rooms, err := room.New(room.Config{
		Memories: memories, People: directories,
		Store: m.store, Blobs: blobs, Door: g, Sessions: m.sessions, Sources: sources, Runs: m.runs, Records: guard.Records{Guard: g, Log: log},
		Packs: packs, Policies: policies, Engine: func() (bool, string) { return true, "" },
		Ask: func(ctx context.Context, p auth.Principal, once string, in run.ID, question string) (run.ID, run.ID, error) {
			return m.runs.Begin(ctx, p, once, in, library.AnswerName, library.Question{Question: answer.Question{Text: question}})
		},
	})
	must(err)
	pages := rooms.Pages()
	pages.Nodes, pages.Node, pages.URL = uitest.Full().Config().Nodes, name, "https://localhost"
	h, err := ui.New(pages)
	must(err)
	m.server = httptest.NewUnstartedServer(api.Versions(m.store, h))
	m.server.EnableHTTP2 = true
	m.server.StartTLS()
	t.Cleanup(func() {
		stop()
		m.store.Join()
		m.server.CloseClientConnections()
		m.server.Close()
		m.runs.Close()
		sources.Close()
		rooms.Close()
		g.Close()
	})
	return m
}

// kill takes the node away: nobody reaches it, and it reaches nobody.
func (m *member) kill() {
	m.store.Cut()
	m.stop()
	m.server.Listener.Close()
	m.server.CloseClientConnections()
}

func (m *member) address() string { return m.server.Listener.Addr().String() }

// TestTheNodeOfABrowserDies kills the node that a browser uses in the middle of
// an answer: the answer arrives on the page that stands there, through another
// node behind the same name, without a new sign-in; and when there is none for a
// while, the page says so and one click goes on.
func TestTheNodeOfABrowserDies(t *testing.T) {
	st := storetest.NewModel(nil)
	keys, err := seal.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	p := &pace{}
	nodes := []*member{join(t, st, keys, "one", p), join(t, st, keys, "two", p), join(t, st, keys, "three", p)}
	code, err := nodes[2].sessions.NewSetupCode(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := nodes[2].sessions.Setup(t.Context(), code, "maria", "a cloister has four walks"); err != nil {
		t.Fatal(err)
	}
	name := newService(t)
	name.lead(nodes[0].address())
	_, port, _ := net.SplitHostPort(name.listener.Addr().String())
	sum := sha256.Sum256(nodes[0].server.Certificate().RawSubjectPublicKeyInfo)
	s := site{url: "https://localhost:" + port, spki: base64.StdEncoding.EncodeToString(sum[:])}
	c := tab(t, s)
	c.set(t, look{"light", 1280})
	c.at(t, "/sign-in", 200)
	c.typeInto(t, "user", "maria")
	c.typeInto(t, "password", "a cloister has four walks")
	c.enter(t, "/")

	c.askSlowly(t, p)
	nodes[0].kill()
	name.lead(nodes[1].address())
	c.answered(t, p)
	c.picture(t, "failover-answered")

	c.askSlowly(t, p)
	c.run(t, chromedp.Evaluate(`document.querySelector("#lost").hidden`, nil))
	nodes[1].kill()
	name.lead("") // nobody answers for a while
	if !c.until(`!document.querySelector("#lost").hidden && document.querySelector("#lost").innerText.includes("Resume")`) {
		t.Error("the page does not say that its node is gone")
	}
	c.picture(t, "failover-lost")
	name.lead(nodes[2].address())
	c.run(t, chromedp.Click("#lost a", chromedp.ByQuery))
	c.answered(t, p)
	c.clean(t)
}

// askSlowly asks, and returns when the answer is half made.
func (c *chrome) askSlowly(t *testing.T, p *pace) {
	t.Helper()
	p.stop()
	c.at(t, "/ask", 200)
	c.typeInto(t, "question", "When does the depot open?")
	c.press(t, kb.Enter)
	if !c.until(`location.pathname.startsWith("/ask/")`) {
		t.Fatal("asking leads nowhere")
	}
	c.see(t, "Looking")
	<-p.at
	c.run(t, chromedp.Evaluate(`window.stands = true`, nil))
}

// answered waits for the answer on the page that stood there when it was asked
// for.
func (c *chrome) answered(t *testing.T, p *pace) {
	t.Helper()
	select {
	case <-p.at: // another node has taken the run over
	case <-time.After(time.Minute):
		t.Fatal("no other node went on with the run")
	}
	p.goOn()
	c.see(t, "The depot opens at seven.")
	var stands, lost bool
	var at string
	c.run(t, chromedp.Evaluate(`window.stands === true`, &stands), chromedp.Evaluate(`!document.querySelector("#lost").hidden`, &lost), chromedp.Location(&at))
	if !stands || lost || !strings.Contains(at, "/ask/") {
		t.Errorf("the page stands: %v, says that it lost its node: %v, is at %s", stands, lost, at)
	}
}

// clean fails when a script broke or the page reached elsewhere.
func (c *chrome) clean(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.broken)+len(c.foreign) > 0 {
		t.Errorf("scripts broke %q, requests went to %q", c.broken, c.foreign)
	}
}
