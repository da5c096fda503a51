package client

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// versionHeader says how far a node is, and how far one must be to be asked.
const versionHeader = "Cloister-Version"

// memoryAge is for how long one run of the program tells the next what it wrote;
// by then every node that can serve has it.
const memoryAge = time.Minute

// memory is what a client knows of the installation from earlier answers, so
// that whoever wrote through one node reads it through another. The part that
// matters to the next run of the program is kept beside the profile.
type memory struct {
	Of      string    `json:"of"`      // which installation: a hash of whom to trust and where it is
	Server  string    `json:"server"`  // that answered last
	Version uint64    `json:"version"` // the newest that something was written at
	At      time.Time `json:"at"`

	seen     uint64 // the newest that an answer said
	answered bool   // some node has answered this client
}

func memoryPath() (string, error) {
	path, err := profilePath()
	return filepath.Join(filepath.Dir(path), "memory.json"), err
}

// recall reads what an earlier run left. There may be nothing.
func recall(p Profile) memory {
	sum := sha256.Sum256([]byte(p.CA + "\x00" + p.URL))
	fresh := memory{Of: hex.EncodeToString(sum[:])}
	path, err := memoryPath()
	if err != nil {
		return fresh
	}
	b, err := os.ReadFile(path)
	var m memory
	if err != nil || json.Unmarshal(b, &m) != nil || m.Of != fresh.Of {
		return fresh
	}
	if age := time.Since(m.At); age >= 0 && age < memoryAge {
		m.seen = m.Version
	}
	return m
}

// remind tells a node how far it must be.
func (m *memory) remind(req *http.Request) {
	if m.seen > 0 {
		req.Header.Set(versionHeader, strconv.FormatUint(m.seen, 10))
	}
}

// note remembers what an answer says. What may have changed something is kept for
// the next run; that it cannot be kept is no reason to fail.
func (m *memory) note(req *http.Request, resp *http.Response, server *url.URL) {
	m.answered = true
	v, err := strconv.ParseUint(resp.Header.Get(versionHeader), 10, 62)
	if err != nil {
		return
	}
	m.seen = max(m.seen, v)
	if req.Method == http.MethodGet || resp.StatusCode >= 300 {
		return
	}
	m.Server, m.Version, m.At = server.String(), m.seen, time.Now().UTC()
	path, err := memoryPath()
	if err != nil {
		return
	}
	if b, err := json.Marshal(m); err == nil && os.MkdirAll(filepath.Dir(path), 0o700) == nil {
		_ = writePrivate(path, b)
	}
}
