// Command licences prints the licence of every module that a binary was built
// from, and of the C headers that its engine was built with: what a package must
// carry beside the binary. A module without a licence is an error.
//
// It may import nothing of Cloister.
package main

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "licences takes a binary")
		os.Exit(2)
	}
	if err := print(os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "licences:", err)
		os.Exit(1)
	}
}

// headers are Debian's packages whose headers the engine includes.
var headers = []string{"nlohmann-json3-dev", "libstb-dev"}

func print(w io.Writer, binary string) error {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return err
	}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		text, err := moduleLicence(m.Path, m.Version)
		if err != nil {
			return fmt.Errorf("%s %s: %w", m.Path, m.Version, err)
		}
		if err := entry(w, m.Path+" "+m.Version, text); err != nil {
			return err
		}
	}
	for _, p := range headers {
		text, err := os.ReadFile(filepath.Join("/usr/share/doc", p, "copyright"))
		if err != nil {
			return err
		}
		if err := entry(w, p, text); err != nil {
			return err
		}
	}
	return nil
}

func entry(w io.Writer, name string, text []byte) error {
	_, err := fmt.Fprintf(w, "%s\n%s\n\n%s\n\n", name, strings.Repeat("=", len(name)), bytes.TrimSpace(text))
	return err
}

var licenceFile = regexp.MustCompile(`(?i)^(licen[cs]e|copying|unlicense|notice)([.-].*)?$`)

// moduleLicence is every licence and notice in the module's top folder.
func moduleLicence(path, version string) ([]byte, error) {
	out, err := exec.Command("go", "mod", "download", "-json", path+"@"+version).Output()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	var m struct{ Dir string }
	if err := json.Unmarshal(out, &m); err != nil {
		return nil, err
	}
	files, err := os.ReadDir(m.Dir)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, f := range files {
		if f.IsDir() || !licenceFile.MatchString(f.Name()) {
			continue
		}
		b, err := os.ReadFile(filepath.Join(m.Dir, f.Name()))
		if err != nil {
			return nil, err
		}
		all = append(append(all, b...), '\n')
	}
	if len(all) == 0 {
		return nil, errors.New("it has no licence")
	}
	return all, nil
}
