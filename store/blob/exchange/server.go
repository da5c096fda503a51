package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cloister-os/cloister/store/blob"
)

// Bounds of a Server.
const (
	maxServed = 16 // readers at once, each with a chunk in memory
	maxPushes = 6  // pushes at once, each with a batch in memory
	maxLists  = 64 // chunk lists remembered
	putsAtOne = 8  // blobs of one Push written at once
	holdWait  = 20 * time.Second
)

// ServerConfig is what a Server is made of. Store is required.
type ServerConfig struct {
	Store   *blob.Store
	Sources []Source // where else to look, after Store
	// Doubt is told of a blob that another node received wrong from here; it
	// must not wait. nil = nothing.
	Doubt func(h blob.Hash)
	// Received is told of a blob that another node pushed here; it must not wait.
	// nil = nothing.
	Received func(h blob.Hash)
	// Hold brings a large blob here from the node that asks. nil = refuse.
	Hold func(ctx context.Context, h blob.Hash, from string) error
	// Caller names the node that sent a request. nil = nobody is known.
	Caller func(ctx context.Context) string
	Logger *slog.Logger // nil = slog.Default()
}

// Server gives other nodes the blobs of this one, and takes theirs.
type Server struct {
	cfg ServerConfig
	mux *http.ServeMux

	mu    sync.Mutex
	lists map[blob.Hash]blob.Chunks // of blobs larger than one chunk
}

// NewServer returns a Server; mount it at Prefix.
func NewServer(c ServerConfig) *Server {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Caller == nil {
		c.Caller = func(context.Context) string { return "" }
	}
	s := &Server{cfg: c, mux: http.NewServeMux(), lists: map[blob.Hash]blob.Chunks{}}
	reads, pushes := make(chan struct{}, maxServed), make(chan struct{}, maxPushes)
	s.mux.HandleFunc("GET "+Prefix+"{hash}", bounded(reads, s.serveRange))
	s.mux.HandleFunc("GET "+Prefix+"{hash}/chunks", bounded(reads, s.serveChunks))
	s.mux.HandleFunc("POST "+Prefix+"{hash}/doubt", s.serveDoubt)
	s.mux.HandleFunc("POST "+Prefix+"{hash}/hold", s.serveHold)
	s.mux.HandleFunc("POST "+Prefix+"batch", bounded(reads, s.serveBatch))
	s.mux.HandleFunc("POST "+Prefix+"push", bounded(pushes, s.servePush))
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// bounded refuses what there is no slot for.
func bounded(slots chan struct{}, f http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			f(w, r)
		default:
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many blobs are being carried: try again in a moment", http.StatusServiceUnavailable)
		}
	}
}

// open finds a blob in one of the sources.
func (s *Server) open(h blob.Hash) (f blob.File, size int64, err error) {
	if f, size, err = s.cfg.Store.OpenLocal(h); err == nil {
		return f, size, nil
	}
	if errors.Is(err, blob.ErrCorrupt) && s.cfg.Doubt != nil {
		s.cfg.Doubt(h)
	}
	for _, src := range s.cfg.Sources {
		if f, size, other := src.OpenLocal(h); other == nil {
			return f, size, nil
		}
	}
	return nil, 0, err
}

// refuse says why a blob cannot be given. A damaged one is as good as none.
func (s *Server) refuse(w http.ResponseWriter, err error) {
	switch {
	case errors.Is(err, blob.ErrNotFound), errors.Is(err, blob.ErrCorrupt):
		http.Error(w, err.Error(), http.StatusNotFound)
	default:
		s.cfg.Logger.Warn("A blob could not be given to another node.", "error", err)
		http.Error(w, "the blob cannot be read here", http.StatusInternalServerError)
	}
}

func pathHash(w http.ResponseWriter, r *http.Request) (blob.Hash, bool) {
	h, err := blob.Parse(r.PathValue("hash"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return h, false
	}
	return h, true
}

// serveRange gives the bytes [start, end) of a blob: at most one chunk.
func (s *Server) serveRange(w http.ResponseWriter, r *http.Request) {
	h, ok := pathHash(w, r)
	if !ok {
		return
	}
	start, end, ok := parseRange(r.Header.Get("Range"))
	if !ok {
		http.Error(w, "ask with Range: bytes=FIRST-LAST, for at most one chunk", http.StatusRequestedRangeNotSatisfiable)
		return
	}
	f, size, err := s.open(h)
	if err != nil {
		s.refuse(w, err)
		return
	}
	defer f.Close()
	if end > size {
		http.Error(w, fmt.Sprintf("the blob has %d bytes", size), http.StatusRequestedRangeNotSatisfiable)
		return
	}
	b := make([]byte, end-start)
	if _, err := f.ReadAt(b, start); err != nil && !errors.Is(err, io.EOF) {
		if s.cfg.Doubt != nil {
			s.cfg.Doubt(h)
		}
		s.refuse(w, fmt.Errorf("%w: %w", blob.ErrCorrupt, err))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, end-1, size))
	w.WriteHeader(http.StatusPartialContent)
	w.Write(b) //nolint:errcheck // the other side may have left
}

// parseRange reads "bytes=FIRST-LAST" of one to ChunkBytes bytes.
func parseRange(header string) (start, end int64, ok bool) {
	spec, ok := strings.CutPrefix(header, "bytes=")
	first, last, ok2 := strings.Cut(spec, "-")
	start, err1 := strconv.ParseInt(first, 10, 64)
	end, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || !ok2 || err1 != nil || err2 != nil || start < 0 || end < start || end-start >= blob.ChunkBytes {
		return 0, 0, false
	}
	return start, end + 1, true
}

func (s *Server) serveChunks(w http.ResponseWriter, r *http.Request) {
	h, ok := pathHash(w, r)
	if !ok {
		return
	}
	c, err := s.chunks(h)
	if err != nil {
		s.refuse(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(c); err != nil {
		s.cfg.Logger.Debug("a list of chunks was not taken", "error", err)
	}
}

// chunks makes a blob's list, which reads the blob whole, once.
func (s *Server) chunks(h blob.Hash) (blob.Chunks, error) {
	f, size, err := s.open(h)
	if err != nil {
		return blob.Chunks{}, err
	}
	defer f.Close()
	s.mu.Lock()
	c, ok := s.lists[h]
	s.mu.Unlock()
	if ok && c.Size == size {
		return c, nil
	}
	if c, err = blob.ChunksOf(h, f); err != nil {
		if s.cfg.Doubt != nil {
			s.cfg.Doubt(h)
		}
		return c, err
	}
	if len(c.Hashes) > 1 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.lists) >= maxLists {
			clear(s.lists)
		}
		s.lists[h] = c
	}
	return c, nil
}

// serveDoubt hears that what this node sent was wrong.
func (s *Server) serveDoubt(w http.ResponseWriter, r *http.Request) {
	h, ok := pathHash(w, r)
	if !ok {
		return
	}
	s.mu.Lock()
	delete(s.lists, h)
	s.mu.Unlock()
	if s.cfg.Doubt != nil {
		s.cfg.Doubt(h)
	}
	w.WriteHeader(http.StatusNoContent)
}

// serveHold brings a blob here from the node that asks: 200 when it is here, 202
// when it is on its way and to be asked for again.
func (s *Server) serveHold(w http.ResponseWriter, r *http.Request) {
	h, ok := pathHash(w, r)
	if !ok {
		return
	}
	from := s.cfg.Caller(r.Context())
	if s.cfg.Hold == nil || from == "" {
		http.Error(w, "this node takes no blobs", http.StatusNotImplemented)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), holdWait)
	defer cancel()
	switch err := s.cfg.Hold(ctx, h, from); {
	case err == nil:
		w.WriteHeader(http.StatusOK)
	case errors.Is(err, context.DeadlineExceeded):
		w.WriteHeader(http.StatusAccepted)
	default:
		http.Error(w, err.Error(), http.StatusInsufficientStorage)
	}
}

// serveBatch gives many small blobs at once, in the order they were asked for.
func (s *Server) serveBatch(w http.ResponseWriter, r *http.Request) {
	list, err := readHashes(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	var sent int64
	for _, h := range list {
		n, err := s.sendFrame(w, h, sent >= MaxBatchBytes)
		if err != nil {
			return // the other side left; it knows by the missing frames
		}
		sent += n
	}
}

func (s *Server) sendFrame(w io.Writer, h blob.Hash, full bool) (int64, error) {
	if full {
		return 0, writeHead(w, h, askLater)
	}
	f, size, err := s.open(h)
	if err != nil {
		return 0, writeHead(w, h, notHeld)
	}
	defer f.Close()
	if size > blob.ChunkBytes {
		return 0, writeHead(w, h, askAlone)
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return 0, writeHead(w, h, notHeld)
	}
	if err := writeHead(w, h, uint64(size)); err != nil {
		return 0, err
	}
	_, err = w.Write(b)
	return size, err
}

// servePush takes many small blobs and says which of them are durable here: one
// byte for each, 1 = it is.
func (s *Server) servePush(w http.ResponseWriter, r *http.Request) {
	var (
		puts   sync.WaitGroup
		slots  = make(chan struct{}, putsAtOne)
		held   [MaxBatch]bool
		failed error
		n      int
		total  int64
	)
	body := http.MaxBytesReader(w, r.Body, MaxBatchBytes+blob.ChunkBytes+MaxBatch*int64(frameHead))
	for {
		h, length, err := readHead(body)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || length >= firstWhy || n == MaxBatch || total > MaxBatchBytes {
			failed = errors.Join(err, errors.New("the blobs were not sent as they should"))
			break
		}
		b := make([]byte, length)
		if _, err := io.ReadFull(body, b); err != nil {
			failed = err
			break
		}
		at := n
		n, total = n+1, total+int64(length)
		slots <- struct{}{}
		puts.Go(func() {
			defer func() { <-slots }()
			held[at] = s.take(r.Context(), h, b)
		})
	}
	puts.Wait()
	if failed != nil {
		http.Error(w, failed.Error(), http.StatusBadRequest)
		return
	}
	out := make([]byte, n)
	for i := range out {
		if held[i] {
			out[i] = 1
		}
	}
	w.Write(out) //nolint:errcheck // the other side may have left
}

// take stores one blob that was pushed.
func (s *Server) take(ctx context.Context, h blob.Hash, b []byte) bool {
	err := s.cfg.Store.Receive(ctx, h, b)
	if err != nil {
		level := slog.LevelWarn
		if ctx.Err() != nil {
			level = slog.LevelDebug
		}
		s.cfg.Logger.Log(ctx, level, "A blob from another node was not kept.", "blob", h, "error", err)
		return false
	}
	if s.cfg.Received != nil {
		s.cfg.Received(h)
	}
	return true
}
