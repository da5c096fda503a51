package seal

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cloister-os/cloister/auth/seal/shamir"
)

// The seal by shares: the root key lies encrypted under a key that nobody has, which
// was split into shares for named people. So many of them must bring theirs before a
// node reads anything.
const (
	sharesFile  = "root.shares"     // the root key under the split key, and who holds a share
	pendingFile = "root.shares.new" // the same, made and not yet proven to be in their holders' hands
	goneFile    = "root.key.gone"   // a root key's file on its way out
	sharesForm  = 1

	// MaxHolders bounds how many people hold a share.
	MaxHolders = 20
	maxName    = 80 // bytes of a holder's name
)

// ErrShare is the one answer to every share that is not right, whatever is wrong
// with it.
var ErrShare = errors.New("this is not one of the shares that open this seal: compare it letter by letter with what was written down")

// ErrHolders is the kind of every error about who is to hold a share.
var ErrHolders = errors.New("the root key cannot be split so")

// shareHolder is somebody who holds a share.
type shareHolder struct {
	Name string `json:"name"`
	X    byte   `json:"x"`
	// Digest tells a right share from a wrong one before enough are there. A share
	// has 256 bits of its own, so it cannot be found from its digest.
	Digest string `json:"digest"`
}

// Share is a holder's share, as it is shown once.
type Share struct {
	Holder string `json:"holder"`
	Text   string `json:"share"`
}

// sharesContent is the file.
type sharesContent struct {
	Version int           `json:"version"`
	Set     string        `json:"set"` // tells the shares of two splits apart
	Need    int           `json:"need"`
	Holders []shareHolder `json:"holders"`
	Root    string        `json:"root"`   // names the root key
	Sealed  []byte        `json:"sealed"` // the root key
	Proof   []byte        `json:"proof"`  // by the root key, over all of it: a node takes no other file
}

// aad is all that the sealed root key is bound to.
func (c sharesContent) aad() []byte {
	c.Sealed, c.Proof = nil, nil
	b, _ := json.Marshal(c) // of strings and numbers: it cannot fail
	return b
}

// Shared reports whether the seal is one by shares, and lists the holders and how
// many of them are needed.
func (k *Keys) Shared() (holders []string, need int, shared bool) {
	c, err := readShares(k.dir)
	if err != nil {
		return nil, 0, false
	}
	for _, h := range c.Holders {
		holders = append(holders, h.Name)
	}
	return holders, c.Need, !exists(k.dir, rootFile)
}

// Split splits the root key for the named holders. Nothing changes until Confirm has
// seen as many of the shares as are needed: until then the shares open nothing, and
// another Split takes the place of this one.
func (k *Keys) Split(holders []string, need int) ([]Share, error) {
	if err := checkHolders(holders, need); err != nil {
		return nil, err
	}
	kek, set := make([]byte, 32), make([]byte, 4)
	defer clear(kek)
	rand.Read(kek)
	rand.Read(set)
	points, err := shamir.Split(kek, len(holders), need)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrHolders, err)
	}
	c := sharesContent{Version: sharesForm, Set: hex.EncodeToString(set), Need: need, Root: k.rootName()}
	out := make([]Share, len(holders))
	for i, p := range points {
		c.Holders = append(c.Holders, shareHolder{Name: holders[i], X: p.X, Digest: digest(set, p)})
		out[i] = Share{Holder: holders[i], Text: shareText(set, p)}
		clear(p.Y)
	}
	if c.Sealed, err = (&Keys{root: kek}).Seal(c.aad(), k.root); err != nil {
		return nil, err
	}
	c.Proof = k.proof(c)
	k.keeping.Lock()
	defer k.keeping.Unlock()
	return out, c.write(k.dir, pendingFile)
}

func checkHolders(holders []string, need int) error {
	switch {
	case len(holders) > MaxHolders:
		return fmt.Errorf("%w: at most %d people can hold a share", ErrHolders, MaxHolders)
	case need < 2 || need > len(holders):
		return fmt.Errorf("%w: of %d shares, 2 to %d can be needed", ErrHolders, len(holders), len(holders))
	}
	for i, name := range holders {
		if name == "" || len(name) > maxName || strings.TrimSpace(name) != name || strings.ContainsFunc(name, unprintable) {
			return fmt.Errorf("%w: %q is not a name of at most %d letters", ErrHolders, name, maxName)
		}
		if slices.Contains(holders[:i], name) {
			return fmt.Errorf("%w: %q is named twice, and each holder needs a share of their own", ErrHolders, name)
		}
	}
	return nil
}

func unprintable(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd }

// proof authenticates a file of shares by the root key that it holds.
func (k *Keys) proof(c sharesContent) []byte {
	m := hmac.New(sha256.New, k.derive("shares-proof/v1", nil))
	m.Write(c.aad())
	m.Write(c.Sealed)
	return m.Sum(nil)
}

func (c sharesContent) write(dir, name string) error {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return replace(dir, name, append(b, '\n'), 0o600)
}

// Confirm returns the file of shares that Split made, for this node and the others
// of the cluster to Adopt, once as many of its shares as are needed were brought: so
// they are known to have been written down. It changes nothing.
func (k *Keys) Confirm(shares []string) ([]byte, error) {
	c, err := readFile(k.dir, pendingFile)
	if err != nil {
		return nil, fmt.Errorf("%w: nothing waits to be confirmed: split the root key first, with cloister seal shares", ErrHolders)
	}
	var points []shamir.Share
	for _, text := range shares {
		p, _, err := c.recognise(text)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(points, func(q shamir.Share) bool { return q.X == p.X }) {
			points = append(points, p)
		}
	}
	if len(points) < c.Need {
		return nil, fmt.Errorf("%w: %d different shares are needed to confirm, and %d were given", ErrHolders, c.Need, len(points))
	}
	root, err := c.open(points)
	if err != nil || subtle.ConstantTimeCompare(root, k.root) != 1 {
		return nil, fmt.Errorf("%w: the shares do not lead to the root key: split it again", ErrHolders)
	}
	b, err := os.ReadFile(filepath.Join(k.dir, pendingFile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return b, nil
}

// closeFile removes the root key's file and gives a file of shares its place. In
// between, the pending file counts.
func (k *Keys) closeFile(from string) error {
	gone := filepath.Join(k.dir, goneFile)
	if err := os.Rename(filepath.Join(k.dir, rootFile), gone); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	if err := errors.Join(syncDir(k.dir), wipeGone(k.dir)); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(k.dir, from), filepath.Join(k.dir, sharesFile)); err != nil {
		return fmt.Errorf("%w: %w", ErrSeal, err)
	}
	return syncDir(k.dir)
}

// wipeGone overwrites and removes a root key's file that no longer counts. What a
// disk keeps elsewhere of its old bytes is beyond reach.
func wipeGone(dir string) error {
	path := filepath.Join(dir, goneFile)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		_, err = f.WriteAt(make([]byte, len(rootText(make([]byte, 32)))), 0)
		err = errors.Join(err, f.Sync(), f.Close(), os.Remove(path), syncDir(dir))
	}
	if err != nil {
		return fmt.Errorf("%w: remove the root key's file: %w", ErrSeal, err)
	}
	return nil
}

// Adopt makes this node's seal what the cluster's is: by the shares in file, or by a
// file with the root key when it is empty. What is so already stays. The node goes
// on; the next start is another one.
//
// It may be called for one change by who makes it and by who hears of it at once.
func (k *Keys) Adopt(file []byte) error {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	if len(file) == 0 {
		return k.unsplit()
	}
	var c sharesContent
	if err := json.Unmarshal(file, &c); err != nil || !hmac.Equal(k.proof(c), c.Proof) {
		return fmt.Errorf("%w: the shares that the cluster uses are not of this root key", ErrSeal)
	}
	if have, err := os.ReadFile(filepath.Join(k.dir, sharesFile)); err == nil && bytes.Equal(have, file) && !exists(k.dir, rootFile) {
		return nil
	}
	if err := replace(k.dir, pendingFile, file, 0o600); err != nil {
		return err
	}
	return k.closeFile(pendingFile)
}

// Unsplit makes the seal one by a file again: the node starts without anybody.
func (k *Keys) Unsplit() error {
	k.keeping.Lock()
	defer k.keeping.Unlock()
	return k.unsplit()
}

func (k *Keys) unsplit() error {
	if !exists(k.dir, rootFile) {
		if err := create(k.dir, rootFile, rootText(k.root), 0o600); err != nil {
			return err
		}
	}
	for _, name := range []string{sharesFile, pendingFile} {
		if err := os.Remove(filepath.Join(k.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%w: %w", ErrSeal, err)
		}
	}
	return syncDir(k.dir)
}

func exists(dir, name string) bool {
	_, err := os.Lstat(filepath.Join(dir, name))
	return err == nil
}

// readShares reads the file of shares that counts; fs.ErrNotExist when there is
// none.
func readShares(dir string) (sharesContent, error) {
	c, err := readFile(dir, sharesFile)
	if errors.Is(err, fs.ErrNotExist) && !exists(dir, rootFile) {
		return readFile(dir, pendingFile) // see closeFile
	}
	return c, err
}

func readFile(dir, name string) (sharesContent, error) {
	path := filepath.Join(dir, name)
	b, err := os.ReadFile(path)
	if err != nil {
		return sharesContent{}, fmt.Errorf("%w: %w", ErrSeal, err)
	}
	c, ok := parseShares(b)
	if !ok {
		return sharesContent{}, fmt.Errorf("%w: %s is damaged: put it back from its copy, or take it from another node of the cluster", ErrSeal, path)
	}
	return c, nil
}

func parseShares(b []byte) (c sharesContent, ok bool) {
	damaged := json.Unmarshal(b, &c) != nil || c.Version != sharesForm || len(c.Holders) > MaxHolders || c.Need < 2 || c.Need > len(c.Holders) || len(c.Sealed) == 0
	set, err := hex.DecodeString(c.Set)
	return c, !damaged && err == nil && len(set) == 4
}

// open combines shares and opens the root key.
func (c sharesContent) open(points []shamir.Share) ([]byte, error) {
	kek, err := shamir.Combine(points)
	if err != nil {
		return nil, err
	}
	defer clear(kek)
	return (&Keys{root: kek}).Open(c.aad(), c.Sealed)
}

// The text of a share: what it is, then 40 bytes (set, x, y, checksum) in base32 in
// groups of four, so that it can be read aloud and typed.
const (
	sharePrefix   = "cloister-share-1"
	shareBytes    = 4 + 1 + 32
	shareSumBytes = 3
	maxShareText  = 512
)

var shareCode = base32.StdEncoding.WithPadding(base32.NoPadding)

func shareText(set []byte, p shamir.Share) string {
	b := append(append(bytes.Clone(set), p.X), p.Y...)
	sum := sha256.Sum256(b)
	code := strings.ToLower(shareCode.EncodeToString(append(b, sum[:shareSumBytes]...)))
	text := sharePrefix
	for part := range slices.Chunk([]byte(code), 4) {
		text += "-" + string(part)
	}
	return text
}

func parseShare(text string) (set []byte, p shamir.Share, ok bool) {
	if len(text) > maxShareText {
		return nil, p, false
	}
	text = strings.ToLower(strings.Join(strings.Fields(text), ""))
	code, ok := strings.CutPrefix(text, sharePrefix)
	b, err := shareCode.DecodeString(strings.ToUpper(strings.ReplaceAll(code, "-", "")))
	if !ok || err != nil || len(b) != shareBytes+shareSumBytes {
		return nil, p, false
	}
	sum := sha256.Sum256(b[:shareBytes])
	if !bytes.Equal(sum[:shareSumBytes], b[shareBytes:]) {
		return nil, p, false
	}
	return b[:4], shamir.Share{X: b[4], Y: b[5:shareBytes]}, true
}

// digest is of a share alone: see shareHolder.
func digest(set []byte, p shamir.Share) string {
	h := sha256.New()
	h.Write([]byte("cloister share v1"))
	h.Write(set)
	h.Write([]byte{p.X})
	h.Write(p.Y)
	return hex.EncodeToString(h.Sum(nil))
}

// recognise reads a share and finds its holder. Whatever is wrong with it, the same
// is done and the same is said.
func (c sharesContent) recognise(text string) (shamir.Share, int, error) {
	set, p, ok := parseShare(text)
	if !ok {
		set, p = make([]byte, 4), shamir.Share{Y: make([]byte, 32)}
	}
	want, found := digest(set, p), -1
	own, _ := hex.DecodeString(c.Set)
	mine := subtle.ConstantTimeCompare(own, set)
	for i, h := range c.Holders {
		same := subtle.ConstantTimeCompare([]byte(want), []byte(h.Digest)) & subtle.ConstantTimeByteEq(h.X, p.X) & mine
		found = subtle.ConstantTimeSelect(same, i, found)
	}
	if found < 0 || !ok {
		return shamir.Share{}, -1, ErrShare
	}
	return p, found, nil
}
