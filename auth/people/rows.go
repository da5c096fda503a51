package people

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/auth"
	"github.com/cloister-os/cloister/auth/directory"
	"github.com/cloister-os/cloister/store"
)

// Where things are kept.
const (
	directories store.Space = "H/directory/"          // name → directoryRow
	grants      store.Space = "H/directory-roles/"    // name → grantsRow
	members     store.Space = "S/directory-member/"   // name, UUID → memberRow, of who has signed in
	heard       store.Space = "S/directory-answered/" // name → heardRow
)

// directoryRow is a directory that was joined.
type directoryRow struct {
	V          uint     `cbor:"1,keyasint"`
	Made       string   `cbor:"2,keyasint"` // another one for each time it is joined: sessions do not outlive it
	Servers    []string `cbor:"3,keyasint"`
	CA         []byte   `cbor:"4,keyasint"` // PEM
	BindDN     string   `cbor:"5,keyasint"`
	Password   []byte   `cbor:"6,keyasint"` // of the service account, sealed
	Base       string   `cbor:"7,keyasint"`
	GroupBase  string   `cbor:"8,keyasint,omitempty"`
	Kind       string   `cbor:"9,keyasint,omitempty"`
	LoginAttrs []string `cbor:"10,keyasint,omitempty"`
	Filter     string   `cbor:"11,keyasint,omitempty"`
	Added      int64    `cbor:"12,keyasint"` // seconds since 1970
	By         person   `cbor:"13,keyasint"`
}

// person is who did something, by id and by the name that they sign in with.
type person struct {
	ID    string `cbor:"1,keyasint"`
	Login string `cbor:"2,keyasint"`
}

func (r directoryRow) config(name, password string) directory.Config {
	return directory.Config{
		Name: name, Servers: r.Servers, CA: r.CA, BindDN: r.BindDN, BindPassword: password, Base: r.Base, GroupBase: r.GroupBase,
		Kind: directory.Kind(r.Kind), LoginAttrs: r.LoginAttrs, Filter: r.Filter,
	}
}

func aad(name, made string) []byte { return []byte("directory " + name + " " + made) }

// grantsRow is which group of a directory gives which role.
type grantsRow struct {
	V      uint       `cbor:"1,keyasint"`
	Grants []grantRow `cbor:"2,keyasint"`
}

type grantRow struct {
	Group string    `cbor:"1,keyasint"` // UUID
	Name  string    `cbor:"2,keyasint"` // as it was then, for display
	Role  auth.Role `cbor:"3,keyasint"`
	By    person    `cbor:"4,keyasint"`
	At    int64     `cbor:"5,keyasint"` // seconds since 1970
}

// memberRow is what the directory last said of somebody who has signed in.
type memberRow struct {
	V       uint   `cbor:"1,keyasint"`
	Made    string `cbor:"2,keyasint"` // of the directory that said it
	Login   string `cbor:"3,keyasint"`
	Name    string `cbor:"4,keyasint"`
	State   string `cbor:"5,keyasint"` // of directory.State, or gone
	Groups  []byte `cbor:"6,keyasint"` // UUIDs, 16 bytes each
	Checked int64  `cbor:"7,keyasint"` // seconds since 1970; see heardRow
}

// gone is the state of who the directory has no more.
const gone directory.State = "gone"

// heardRow is how it goes with asking a directory about everybody at once.
type heardRow struct {
	V      uint   `cbor:"1,keyasint"`
	At     int64  `cbor:"2,keyasint"`           // when it last answered for everybody, in seconds since 1970
	Silent int64  `cbor:"3,keyasint,omitempty"` // since when it does not; 0 = it does
	Why    string `cbor:"4,keyasint,omitempty"`
	People int    `cbor:"5,keyasint"` // how many were asked for
	TookMS int64  `cbor:"6,keyasint"`
}

// read reads a row; store.ErrNotFound when there is none.
func read(get func(store.Key) (store.Item, error), k store.Key, row any) (store.Item, error) {
	item, err := get(k)
	if err != nil {
		return item, err
	}
	if err := cbor.Unmarshal(item.Value, row); err != nil {
		return item, fmt.Errorf("what is kept at %q cannot be read: %w", k, err)
	}
	return item, nil
}

// pack writes UUIDs 16 bytes each: somebody is in up to 2,048 groups. What is no
// UUID is left out, for no policy and no grant could name it.
func pack(groups []directory.Group) []byte {
	out := make([]byte, 0, 16*len(groups))
	for _, g := range groups {
		if b, err := hex.DecodeString(strings.ReplaceAll(g.ID, "-", "")); err == nil && len(b) == 16 {
			out = append(out, b...)
		}
	}
	return out
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// unpack undoes pack, each as ID writes it.
func unpack(dir string, b []byte) []string {
	out := make([]string, 0, len(b)/16)
	for ; len(b) >= 16; b = b[16:] {
		out = append(out, fmt.Sprintf("%s/%x-%x-%x-%x-%x", dir, b[:4], b[4:6], b[6:8], b[8:10], b[10:16]))
	}
	return out
}

func unix(t int64) time.Time { return time.Unix(t, 0).UTC() }
