package seal

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cloister-os/cloister/auth/seal/shamir"
)

// Gathering is a root key whose holders bring their shares to where its sealed files
// lie: to a node that was stopped, or to a backup. Who is there could try shares by
// hand anyway, so unlike Locked it says what is wrong with one. It is for one
// goroutine.
type Gathering struct {
	dir     string // of a node's seal; "" for a backup's
	file    []byte // of shares
	content sharesContent
	given   map[int]shamir.Share
}

// GatherAt returns what opens the seal in dir, and nil when it is not one by shares.
func GatherAt(dir string) (*Gathering, error) {
	l, err := Lock(dir)
	if l == nil || err != nil {
		return nil, err
	}
	return &Gathering{dir: dir, content: l.content, given: map[int]shamir.Share{}}, nil
}

// GatherFor returns what opens a backup that has the sealed files, and nil when no
// shares open it.
func GatherFor(files map[string][]byte) (*Gathering, error) {
	file, ok := files[sharesFile]
	if !ok {
		return nil, nil
	}
	c, ok := parseShares(file)
	if !ok {
		return nil, fmt.Errorf("%w: the backup's file of shares is damaged: use another copy of the backup", ErrSeal)
	}
	return &Gathering{file: file, content: c, given: map[int]shamir.Share{}}, nil
}

// Status says who must bring a share.
func (g *Gathering) Status() LockedStatus {
	s := LockedStatus{Sealed: true, Need: g.content.Need, Missing: max(0, g.content.Need-len(g.given))}
	for i, h := range g.content.Holders {
		_, given := g.given[i]
		s.Holders = append(s.Holders, HolderStatus{h.Name, given})
	}
	return s
}

// Add takes a share. One that is not right, or is here already, is ErrShare.
func (g *Gathering) Add(text string) error {
	p, holder, err := g.content.recognise(text)
	if err != nil {
		return g.explain(text)
	}
	if _, ok := g.given[holder]; ok {
		return &shareError{fmt.Sprintf("the share of %s is here already: %d of the others must bring theirs", g.content.Holders[holder].Name, g.Status().Missing)}
	}
	g.given[holder] = p
	return nil
}

// shareError is ErrShare in words of its own.
type shareError struct{ text string }

// Error implements error.
func (e *shareError) Error() string { return e.text }

// Is makes it an ErrShare.
func (e *shareError) Is(target error) bool { return target == ErrShare }

// explain says what is wrong with a share.
func (g *Gathering) explain(text string) error {
	set, _, whole := parseShare(text)
	switch {
	case !whole && !strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), sharePrefix):
		return &shareError{"this is no share: one begins with " + sharePrefix + "-, as cloister seal shares printed it"}
	case !whole:
		return &shareError{"this share was mistyped, or is not whole: compare it letter by letter with what was written down"}
	case hex.EncodeToString(set) != g.content.Set:
		return &shareError{fmt.Sprintf("this share is of another split of a root key: those that count here were given to %s", g.names(func(int) bool { return true }))}
	}
	return ErrShare
}

// names lists holders.
func (g *Gathering) names(which func(i int) bool) string {
	var out []string
	for i, h := range g.content.Holders {
		if which(i) {
			out = append(out, h.Name)
		}
	}
	return strings.Join(out, ", ")
}

// root combines the shares.
func (g *Gathering) root() ([]byte, error) {
	if missing := g.Status().Missing; missing > 0 {
		return nil, fmt.Errorf("%w: %d of the %d shares that are needed are missing: they can come from %s", ErrSeal, missing, g.content.Need,
			g.names(func(i int) bool { _, given := g.given[i]; return !given }))
	}
	var points []shamir.Share
	for _, p := range g.given {
		points = append(points, p)
	}
	root, err := g.content.open(points)
	if err != nil {
		return nil, fmt.Errorf("%w: the shares are right and the file of shares is damaged: use another copy of it", ErrSeal)
	}
	return root, nil
}

// Open opens the seal that GatherAt found.
func (g *Gathering) Open() (*Keys, error) {
	root, err := g.root()
	if err != nil {
		return nil, err
	}
	return openWith(g.dir, root)
}

// Rebuild makes a seal in dir of the files of the backup that GatherFor was given:
// one by the same shares, which no file opens. It can be served once KeepFront has
// made what shares are taken with.
func (g *Gathering) Rebuild(dir string, files map[string][]byte) (*Keys, error) {
	root, err := g.root()
	if err != nil {
		return nil, err
	}
	if err := putFiles(dir, files); err != nil {
		return nil, err
	}
	if err := create(dir, sharesFile, g.file, 0o600); err != nil {
		return nil, err
	}
	k, err := openWith(dir, root)
	if err != nil {
		return nil, fmt.Errorf("the shares do not open this backup: %w", err)
	}
	_, err = k.CA()
	return k, err
}
