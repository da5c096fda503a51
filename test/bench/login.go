package main

import (
	"bytes"
	"context"
	"crypto/sha1" // OpenLDAP's hash for passwords
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloister-os/cloister/auth/directory/directorytest"
	"github.com/cloister-os/cloister/node/api/wire"
)

// The shape of the benchmark: people sign in over connections that stay, as
// browsers' do, each of them once in a while.
const (
	loginPeople  = 2000
	loginClients = 16
	loginRounds  = 5
	loginRound   = 6 * time.Second
	loginGoal    = 300 // a second
)

// logins signs people of slapd in through a node, in turn with bare binds of the
// same people over as many LDAPS connections: the least that any sign-in takes.
func logins(ctx context.Context, f *figures) error {
	if why := directorytest.SlapdReason(); why != "" {
		return fmt.Errorf("%s", why)
	}
	dir, err := os.MkdirTemp("", "cloister-login-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	slapd, err := directorytest.StartSlapd(dir, loginWorld())
	if err != nil {
		return err
	}
	defer slapd.Stop()
	n, err := startLoginNode(ctx, filepath.Join(dir, "data"), slapd)
	if err != nil {
		return err
	}
	defer n.procs.stop()
	var rate, paced, floor, cpu []float64
	var took, late, bare []float64
	for range loginRounds {
		r, ms, err := timed(ctx, 0, func() (func(string) error, func() error, error) {
			bind, done, err := slapd.Binder()
			return func(uid string) error { return bind(loginDN(uid), directorytest.Password) }, done, err
		})
		if err != nil {
			return fmt.Errorf("bare binds: %w", err)
		}
		floor, bare = append(floor, r), append(bare, ms...)
		before := n.procs.cpu()
		r, ms, err = timed(ctx, 0, n.client)
		if err != nil {
			return fmt.Errorf("sign-ins: %w", err)
		}
		rate, took = append(rate, r), append(took, ms...)
		cpu = append(cpu, float64((n.procs.cpu()-before).Microseconds())/float64(len(ms)))
		if r, ms, err = timed(ctx, loginGoal, n.client); err != nil {
			return fmt.Errorf("sign-ins at a steady rate: %w", err)
		}
		paced, late = append(paced, r), append(late, ms...)
	}
	f.spread("logins", rate, "1/s")
	f.points("login", took, "ms")
	f.spread("steady_logins", paced, "1/s")
	f.points("steady_login", late, "ms")
	f.spread("slapd_binds", floor, "1/s")
	f.points("slapd_bind", bare, "ms")
	f.spread("node_cpu", cpu, "us/login")
	return nil
}

func loginDN(uid string) string { return "uid=" + uid + ",dc=example,dc=org" }

func loginUID(i int) string { return fmt.Sprintf("person-%04d", i%loginPeople) }

// loginWorld is people with salted hashes, all in staff, fifty in each team, and
// the teams in departments.
func loginWorld() string {
	sum := sha1.Sum([]byte(directorytest.Password + "salt"))
	hash := "{SSHA}" + base64.StdEncoding.EncodeToString(append(sum[:], "salt"...))
	var b strings.Builder
	var staff, teams []string
	for i := range loginPeople {
		uid := loginUID(i)
		b.WriteString(directorytest.Entry(loginDN(uid), "objectClass: inetOrgPerson", "uid: "+uid, "cn: "+uid, "sn: x", "userPassword: "+hash))
		staff = append(staff, loginDN(uid))
		if i%50 == 49 {
			team := fmt.Sprintf("team-%02d", i/50)
			b.WriteString(directorytest.GroupEntry(team, staff[i-49:]...))
			teams = append(teams, "cn="+team+",dc=example,dc=org")
		}
	}
	b.WriteString(directorytest.GroupEntry("staff", staff...))
	b.WriteString(directorytest.GroupEntry("department", teams...))
	return b.String()
}

// loginNode is a node that has joined slapd.
type loginNode struct {
	procs procs
	url   string
	tls   *tls.Config
}

func startLoginNode(ctx context.Context, data string, slapd *directorytest.Server) (*loginNode, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	program, err := exec.LookPath("./build/cloister")
	if err != nil {
		return nil, err
	}
	n := &loginNode{url: "https://localhost:" + port}
	if err := n.procs.launch(filepath.Dir(data), program, "serve", "--data", data, "--listen", "localhost:"+port); err != nil {
		return nil, err
	}
	if err := ready(ctx, "localhost:"+port); err != nil {
		return n, err
	}
	ca, err := os.ReadFile(filepath.Join(data, "tls", "ca.pem"))
	if err != nil {
		return n, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	n.tls = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}
	return n, n.join(ctx, filepath.Join(data, "setup.json"), slapd)
}

// join sets the node up and lets staff be users.
func (n *loginNode) join(ctx context.Context, setup string, slapd *directorytest.Server) error {
	text, err := os.ReadFile(setup)
	if err != nil {
		return err
	}
	var first struct{ Code string }
	if err := json.Unmarshal(text, &first); err != nil {
		return err
	}
	web := n.web()
	var s wire.Session
	if err := n.post(ctx, web, "", "/api/v1/setup", wire.Setup{Code: first.Code, User: "ada", Password: "correct horse battery staple"}, &s); err != nil {
		return err
	}
	d := wire.NewDirectory{Name: "corp", Servers: []string{slapd.LDAPS}, CA: string(slapd.CA), BindDN: slapd.BindDN, BindPassword: slapd.BindPassword, Base: slapd.Base}
	if err := n.post(ctx, web, s.Token, "/api/v1/directories", d, nil); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/api/v1/directories/corp/groups?search=staff", nil)
	if err != nil {
		return err
	}
	var groups wire.DirectoryGroups
	if err := send(web, req, s.Token, &groups); err != nil {
		return err
	}
	if len(groups.Groups) != 1 {
		return fmt.Errorf("the directory shows %d groups of staff", len(groups.Groups))
	}
	return n.post(ctx, web, s.Token, "/api/v1/directories/corp/roles", wire.NewDirectoryRole{Group: groups.Groups[0].ID, Role: "user"}, nil)
}

func (n *loginNode) web() *http.Client {
	return &http.Client{Transport: &http.Transport{TLSClientConfig: n.tls, MaxIdleConnsPerHost: 1, ForceAttemptHTTP2: false}, Timeout: 30 * time.Second}
}

// client is a browser of its own.
func (n *loginNode) client() (func(string) error, func() error, error) {
	web := n.web()
	sign := func(uid string) error {
		return n.post(context.Background(), web, "", "/api/v1/login", wire.Login{User: uid, Password: directorytest.Password}, nil)
	}
	return sign, func() error { web.CloseIdleConnections(); return nil }, nil
}

func (n *loginNode) post(ctx context.Context, web *http.Client, token, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	return send(web, req, token, out)
}

func send(web *http.Client, req *http.Request, token string, out any) error {
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := web.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err != nil {
		return err
	}
	if res.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s", req.URL.Path, res.Status, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// timed lets clients sign different people in for a round, and returns how many a
// second and how long each took in milliseconds: one after the other each, or, with
// a goal, so many a second in all, each timed from when its turn was.
func timed(ctx context.Context, goal int, open func() (sign func(uid string) error, done func() error, err error)) (rate float64, ms []float64, err error) {
	var mu sync.Mutex // guards ms and err
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	fail := func(why error) {
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			err = why
		}
	}
	clients := loginClients
	if goal > 0 {
		clients *= 4 // so that a slow one holds none up
	}
	for range clients {
		sign, done, openErr := open()
		if openErr != nil {
			return 0, nil, openErr
		}
		all.Go(func() {
			defer func() { _ = done() }()
			var own []float64
			for time.Since(began) < loginRound && ctx.Err() == nil {
				i, at := int(next.Add(1)), time.Now()
				if goal > 0 {
					at = began.Add(time.Duration(i) * time.Second / time.Duration(goal))
					time.Sleep(time.Until(at))
				}
				if why := sign(loginUID(i)); why != nil {
					fail(why)
					return
				}
				own = append(own, float64(time.Since(at).Microseconds())/1000)
			}
			mu.Lock()
			defer mu.Unlock()
			ms = append(ms, own...)
		})
	}
	all.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return float64(len(ms)) / time.Since(began).Seconds(), ms, err
}
