package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Profile says which nodes, whom to trust, and who one is. It is kept in a file
// that only its owner may read.
type Profile struct {
	URL   string `json:"url"`          // of a node, of the service name, or of several nodes with commas between
	CA    string `json:"ca,omitempty"` // the authority's certificate, PEM; "" = the system's
	User  string `json:"user,omitempty"`
	Token string `json:"token,omitempty"`
}

// Servers are the profile's addresses, one by one.
func (p Profile) Servers() []string {
	var out []string
	for s := range strings.SplitSeq(p.URL, ",") {
		if s = strings.TrimRight(strings.TrimSpace(s), "/"); s != "" {
			out = append(out, s)
		}
	}
	return out
}

// ErrNoProfile means that nobody has signed in on this account yet.
var ErrNoProfile = errors.New("you have not signed in yet: run `cloister login --url https://HOST:PORT --ca ca.pem --user NAME`")

func profilePath() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("there is no place for a profile: %w", err)
	}
	return filepath.Join(dir, "cloister", "profile.json"), nil
}

// Load reads the saved profile, and then CLOISTER_SERVER or CLOISTER_URL (one
// address, or several with commas between), CLOISTER_CA (a file) and
// CLOISTER_TOKEN, which override it. A token of the profile is not sent to
// another address than those it is for.
func Load() (Profile, error) {
	p, err := saved()
	if err != nil && !errors.Is(err, ErrNoProfile) {
		return p, err
	}
	if u := cmp.Or(os.Getenv("CLOISTER_SERVER"), os.Getenv("CLOISTER_URL")); u != "" {
		there := Profile{URL: u}
		foreign := func(s string) bool { return !slices.Contains(p.Servers(), s) }
		if slices.ContainsFunc(there.Servers(), foreign) {
			p.Token, p.User = "", ""
		}
		p.URL, err = u, nil
	}
	if file := os.Getenv("CLOISTER_CA"); file != "" {
		if p.CA, err = ReadCA(file); err != nil {
			return p, err
		}
	}
	if t := os.Getenv("CLOISTER_TOKEN"); t != "" {
		p.Token = t
	}
	if p.URL == "" {
		return p, ErrNoProfile
	}
	return p, err
}

// ReadCA reads a certificate authority's file.
func ReadCA(file string) (string, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the certificate authority: %w", err)
	}
	return string(b), nil
}

func saved() (Profile, error) {
	var p Profile
	path, err := profilePath()
	if err != nil {
		return p, err
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, ErrNoProfile
	}
	if err != nil {
		return p, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return p, fmt.Errorf("others may read %s: run `chmod 600 %s`", path, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("%s is damaged: remove it and sign in again", path)
	}
	return p, nil
}

// Save keeps the profile.
func (p Profile) Save() error {
	path, err := profilePath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save the profile: %w", err)
	}
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := writePrivate(path, append(b, '\n')); err != nil {
		return fmt.Errorf("save the profile: %w", err)
	}
	return nil
}

// writePrivate replaces a file that only its owner may read.
func writePrivate(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(0o600), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
