package ui

import (
	"bytes"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/cloister-os/cloister/ui/asset"
	"github.com/cloister-os/cloister/ui/view"
)

// Sealed is a seal that waits for its holders.
type Sealed interface {
	// Shares says who must bring one.
	Shares() Shares
	// Offer takes a share. A share that is not right is a RefusedError.
	Offer(share string) (Shares, error)
}

// Shares says who must bring a share.
type Shares struct {
	Need, Missing int
	Holders       []view.ShareHolder
}

// RefusedError says why a share was not taken.
type RefusedError struct {
	Sentence string
	Wait     time.Duration // no share is taken for so long; 0 = try again
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Sentence }

// maxShareForm bounds what the page takes; a share has some 100 letters.
const maxShareForm = 4 << 10

// unsealing is the one page of a node that waits for shares. A share that was sent
// is written nowhere: not on the page, not in a log, not in an address.
type unsealing struct {
	node   string
	sealed Sealed
	assets *asset.Set
	log    *slog.Logger
}

// Unseal returns the page at /unseal, and what it looks like, of a node that waits
// for shares. It answers nil for every path that is not its own.
func Unseal(node string, s Sealed, log *slog.Logger) (func(path string) http.Handler, error) {
	assets, err := asset.New()
	if err != nil {
		return nil, err
	}
	u := &unsealing{node, s, assets, log}
	mux := http.NewServeMux()
	mux.Handle("GET "+asset.Prefix, assets)
	mux.HandleFunc("GET /unseal", u.form)
	mux.HandleFunc("POST /unseal", u.offer)
	mux.Handle("GET /{$}", http.RedirectHandler("/unseal", http.StatusSeeOther))
	h := secure(mux)
	return func(path string) http.Handler {
		if path == "/" || path == "/unseal" || strings.HasPrefix(path, asset.Prefix) {
			return h
		}
		return nil
	}, nil
}

func (u *unsealing) form(w http.ResponseWriter, r *http.Request) {
	u.show(w, r, http.StatusOK, u.sealed.Shares(), nil)
}

func (u *unsealing) offer(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxShareForm)
	now, err := u.sealed.Offer(r.PostFormValue("share"))
	var refused *RefusedError
	switch {
	case errors.As(err, &refused) && refused.Wait > 0:
		w.Header().Set("Retry-After", strconv.Itoa(int(refused.Wait.Seconds())+1))
		u.refuse(w, r, http.StatusTooManyRequests, err)
	case errors.As(err, &refused):
		u.refuse(w, r, http.StatusForbidden, err)
	case err != nil:
		u.log.Error("the seal could not be opened", "error", err)
		u.refuse(w, r, http.StatusInternalServerError, err)
	case now.Missing == 0:
		u.show(w, r, http.StatusOK, now, &view.Notice{Tone: view.OK, Title: "The seal is open.", Text: "The node starts now. Load this page again in a moment."})
	default:
		u.show(w, r, http.StatusOK, now, &view.Notice{Tone: view.OK, Title: "Your share was taken.", Text: "You can leave: the node waits for the others."})
	}
}

func (u *unsealing) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	text := err.Error()
	u.show(w, r, status, u.sealed.Shares(), &view.Notice{Tone: view.Bad, Title: "The share was not taken.", Text: strings.ToUpper(text[:1]) + text[1:] + "."})
}

func (u *unsealing) show(w http.ResponseWriter, r *http.Request, status int, s Shares, n *view.Notice) {
	f := view.UnsealForm{Need: s.Need, Missing: s.Missing, Holders: s.Holders, Notice: n}
	var page bytes.Buffer
	p := view.Page{Title: "Sealed", Node: u.node, Now: time.Now(), Assets: u.assets}
	if err := view.Unseal(p, f).Render(r.Context(), &page); err != nil {
		http.Error(w, "The page could not be made.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // whoever asked may have gone
}
