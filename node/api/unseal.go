package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/cloister-os/cloister/auth/seal"
	"github.com/cloister-os/cloister/node/api/wire"
)

// Sealed is a seal that waits for its holders. *seal.Locked is one.
type Sealed interface {
	Status() seal.LockedStatus
	Offer(share string) (seal.LockedStatus, error)
}

// maxShareBody bounds what is read of a request with a share.
const maxShareBody = 4 << 10

// Unseal returns the two routes that a node which waits for shares has beside its
// health: who must bring a share, and the bringing of one. It answers nil for every
// path that is not its own. Nobody is signed in yet: a share is its own credential.
func Unseal(s Sealed) func(path string) http.Handler {
	status := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			writeProblem(w, r, problem(http.StatusMethodNotAllowed, "This route is read.", ""))
			return
		}
		writeSealed(w, s.Status())
	})
	offer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			writeProblem(w, r, problem(http.StatusMethodNotAllowed, "A share is posted to this route.", ""))
			return
		}
		var in wire.Unseal
		if err := json.NewDecoder(io.LimitReader(r.Body, maxShareBody)).Decode(&in); err != nil {
			in.Share = "" // a wrong share, like any other
		}
		now, err := s.Offer(in.Share)
		if err != nil {
			writeProblem(w, r, unsealProblem(err))
			return
		}
		writeSealed(w, now)
	})
	return func(path string) http.Handler {
		switch path {
		case "/api/v1/seal":
			return status
		case "/api/v1/seal/unseal":
			return offer
		}
		return nil
	}
}

func unsealProblem(err error) error {
	var many *seal.TooManyError
	switch {
	case errors.As(err, &many):
		return &retryable{problem(http.StatusTooManyRequests, "No share is taken now.", sentence(err)), strconv.Itoa(int(many.Wait.Seconds()) + 1)}
	case errors.Is(err, seal.ErrShare):
		return problem(http.StatusForbidden, "The share was not taken.", sentence(err))
	}
	return problem(http.StatusInternalServerError, "The seal could not be opened.", sentence(err))
}

func writeSealed(w http.ResponseWriter, s seal.LockedStatus) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(wire.Seal{Locked: wireLocked(s)}) // whoever asked may have gone
}

func wireLocked(s seal.LockedStatus) *wire.Locked {
	out := &wire.Locked{Need: s.Need, Missing: s.Missing, Holders: []wire.ShareHolder{}}
	for _, h := range s.Holders {
		out.Holders = append(out.Holders, wire.ShareHolder{Name: h.Name, Given: h.Given})
	}
	return out
}
