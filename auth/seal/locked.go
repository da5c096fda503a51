package seal

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/cloister-os/cloister/auth/seal/shamir"
)

// Bounds of an unsealing.
const (
	wrongShares = 10               // in a row; then nobody may try for a while
	wrongWait   = time.Minute      // that while
	shareLife   = 30 * time.Minute // shares are forgotten when no other comes for so long
)

// TooManyError says that too many wrong shares came, and for how long none is taken.
type TooManyError struct{ Wait time.Duration }

// Error implements error.
func (e *TooManyError) Error() string {
	return fmt.Sprintf("too many wrong shares were tried: no share is taken for the next %d seconds", int(e.Wait.Seconds())+1)
}

// Locked is a seal that waits for its holders. It is safe for concurrent use.
type Locked struct {
	dir     string
	content sharesContent
	opened  chan struct{}

	mu    sync.Mutex // guards all below
	given map[int]shamir.Share
	last  time.Time // when the last right share came
	wrong int       // wrong ones since the last right one
	until time.Time // no share is taken before
	keys  *Keys
}

// HolderStatus is a holder, and whether their share is here.
type HolderStatus struct {
	Name  string `json:"name"`
	Given bool   `json:"given"`
}

// LockedStatus says who must bring a share.
type LockedStatus struct {
	Sealed  bool           `json:"sealed"`
	Need    int            `json:"need"`    // shares that open the seal
	Missing int            `json:"missing"` // of them, how many still have to come
	Holders []HolderStatus `json:"holders"`
}

// Lock returns the seal in dir when it waits for shares, and nil when it opens by
// itself or is yet to be made.
func Lock(dir string) (*Locked, error) {
	if exists(dir, rootFile) {
		return nil, nil
	}
	if err := wipeGone(dir); err != nil {
		return nil, err
	}
	c, err := readShares(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &Locked{dir: dir, content: c, opened: make(chan struct{}), given: map[int]shamir.Share{}}, nil
}

// Opened is closed once enough shares came.
func (l *Locked) Opened() <-chan struct{} { return l.opened }

// Keys is the seal, after Opened.
func (l *Locked) Keys() *Keys {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.keys
}

// Status says who must bring a share.
func (l *Locked) Status() LockedStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(time.Now())
	return l.status()
}

func (l *Locked) status() LockedStatus {
	s := LockedStatus{Sealed: l.keys == nil, Need: l.content.Need}
	if s.Sealed {
		s.Missing = l.content.Need - len(l.given)
	}
	for i, h := range l.content.Holders {
		_, given := l.given[i]
		s.Holders = append(s.Holders, HolderStatus{h.Name, given || !s.Sealed})
	}
	return s
}

// Offer takes a share. Every share that is not right is ErrShare.
func (l *Locked) Offer(text string) (LockedStatus, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.keys != nil {
		return l.status(), nil
	}
	if wait := l.until.Sub(now); wait > 0 {
		return LockedStatus{}, &TooManyError{wait}
	}
	l.expire(now)
	p, holder, err := l.content.recognise(text)
	if err != nil {
		if l.wrong++; l.wrong >= wrongShares {
			l.wrong, l.until = 0, now.Add(wrongWait)
		}
		return LockedStatus{}, err
	}
	l.given[holder], l.last, l.wrong = p, now, 0
	if len(l.given) < l.content.Need {
		return l.status(), nil
	}
	return l.open()
}

// expire forgets shares to which no other came for long.
func (l *Locked) expire(now time.Time) {
	if l.keys == nil && len(l.given) > 0 && now.Sub(l.last) > shareLife {
		l.forget()
	}
}

func (l *Locked) forget() {
	for _, p := range l.given {
		clear(p.Y)
	}
	clear(l.given)
}

// open opens the seal with the shares that are there. l.mu is held.
func (l *Locked) open() (LockedStatus, error) {
	var points []shamir.Share
	for _, p := range l.given {
		points = append(points, p)
	}
	root, err := l.content.open(points)
	l.forget()
	if err != nil {
		return LockedStatus{}, fmt.Errorf("%w: the shares are right and %s is damaged: put it back from its copy, or take it from another node of the cluster", ErrSeal, sharesFile)
	}
	keys, err := openWith(l.dir, root)
	if err != nil {
		return LockedStatus{}, err
	}
	l.keys = keys
	close(l.opened)
	return l.status(), nil
}
