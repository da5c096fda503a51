package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Profile says which node, whom to trust, and who one is. It is kept in a file
// that only its owner may read.
type Profile struct {
	URL   string `json:"url"`
	CA    string `json:"ca,omitempty"` // the authority's certificate, PEM; "" = the system's
	User  string `json:"user,omitempty"`
	Token string `json:"token,omitempty"`
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

// Load reads the saved profile, and then CLOISTER_URL, CLOISTER_CA (a file) and
// CLOISTER_TOKEN, which override it. A token of the profile is not sent to
// another address than the one it came from.
func Load() (Profile, error) {
	p, err := saved()
	if err != nil && !errors.Is(err, ErrNoProfile) {
		return p, err
	}
	if u := os.Getenv("CLOISTER_URL"); u != "" {
		if u != p.URL {
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
	f, err := os.CreateTemp(filepath.Dir(path), "profile.*")
	if err != nil {
		return fmt.Errorf("save the profile: %w", err)
	}
	defer os.Remove(f.Name()) // gone after the rename
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Chmod(0o600), f.Close()); err != nil {
		return fmt.Errorf("save the profile: %w", err)
	}
	return os.Rename(f.Name(), path)
}
