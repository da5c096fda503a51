// Package asset holds what the browser loads besides pages: one style sheet,
// small scripts (one behaviour each), the icon sprite and the mark. All of it is
// written by hand and compiled into the binary.
//
// It promises: each file has a URL that contains its content's hash and may be
// cached for ever; an unknown or outdated hash is not found. It imports nothing
// of Cloister.
package asset

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"strings"
)

//go:embed css/*.css js/*.js img/*.svg
var files embed.FS

// Prefix is where Set's handler must be mounted.
const Prefix = "/asset/"

// StyleSheet is the name of the one style sheet: css/*.css in order.
const StyleSheet = "app.css"

type file struct {
	contentType string
	plain       []byte
	zipped      []byte
}

// Set is all assets by hashed URL. It is immutable.
type Set struct {
	urls  map[string]string // name → URL
	files map[string]file   // URL → content
}

// New reads, joins, hashes and compresses the embedded files.
func New() (*Set, error) {
	set := &Set{urls: map[string]string{}, files: map[string]file{}}
	var css bytes.Buffer
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		if path.Ext(name) == ".css" {
			css.Write(data)
			return nil
		}
		return set.add(path.Base(name), data)
	})
	if err != nil {
		return nil, fmt.Errorf("read embedded assets: %w", err)
	}
	return set, set.add(StyleSheet, css.Bytes())
}

var contentTypes = map[string]string{
	".css": "text/css; charset=utf-8",
	".js":  "text/javascript; charset=utf-8",
	".svg": "image/svg+xml",
}

func (s *Set) add(name string, data []byte) error {
	contentType, ok := contentTypes[path.Ext(name)]
	if !ok {
		return fmt.Errorf("asset %s has no known content type", name)
	}
	var zipped bytes.Buffer
	w, err := gzip.NewWriterLevel(&zipped, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	url := Prefix + hex.EncodeToString(sum[:8]) + "/" + name
	s.urls[name] = url
	s.files[url] = file{contentType: contentType, plain: data, zipped: zipped.Bytes()}
	return nil
}

// URL is the address of an asset by its name, such as "app.css" or "live.js".
// An unknown name yields an address that is not found.
func (s *Set) URL(name string) string {
	if url, ok := s.urls[name]; ok {
		return url
	}
	return Prefix + "none/" + name
}

// ScriptBytes is the size of all scripts as sent, compressed.
func (s *Set) ScriptBytes() int {
	total := 0
	for url, f := range s.files {
		if path.Ext(url) == ".js" {
			total += len(f.zipped)
		}
	}
	return total
}

// ServeHTTP sends an asset.
func (s *Set) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := s.files[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.contentType)
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // the client went away: nothing to do
	}
}
