package badinput

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestANodeThatCannotStartSaysWhy(t *testing.T) {
	t.Parallel()
	n := begun(t)
	serve := func(data, listen string, more ...string) said {
		return n.run("", nil, append([]string{"serve", "--data", data, "--listen", listen}, more...)...)
	}
	fresh := filepath.Join(filepath.Dir(n.data), "fresh")
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	serve(fresh, taken.Addr().String()).isWrong(t, "in use", "--listen")
	serve(fresh, strings.TrimPrefix(n.setup.URL, "https://")).isWrong(t, "in use", "--listen")
	serve(fresh, "203.0.113.7:8443").isWrong(t, "not one of this machine", "--listen")
	serve(fresh, "no-such-host.invalid:8443").isWrong(t, "no-such-host.invalid")
	serve(fresh, "localhost:99999").isWrong(t, "65535")
	serve(fresh, "localhost:0", "--disk-reserve", "much").isWrong(t, "512MiB")
	serve(fresh, "localhost:0", "--disk-reserve", "-5MiB").isWrong(t, "512MiB")
	serve(fresh, "localhost:0", "--runs-parallel", "0").isWrong(t, "1 to 1024")
	serve(fresh, "localhost:0", "--node", "a\x1b[2Jb").isWrong(t, "name")
	serve(fresh, "localhost:0", "--config", filepath.Join(fresh, "none.toml")).isWrong(t, "none.toml")
	serve(fresh, "localhost:0", "--config", n.file("bad.toml", "[[[")).isWrong(t, "TOML")
	if _, err := os.Stat(fresh); err == nil {
		t.Error("a node that did not start made its folder")
	}
	serve(n.data, "localhost:0").isWrong(t, "another process uses the data folder", "--data")
	serve("/proc/cloister", "localhost:0").isWrong(t, "/proc/cloister")
	serve(n.file("a-file", "x"), "localhost:0").isWrong(t, "not a directory")
	serve(filepath.Dir(n.data), "localhost:0").isWrong(t, "holds something else", "--data")
	n.setUp() // whoever tried did the running node no harm
	n.ok("status")
}

func TestADataFolderThatWasDamagedIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	n := ready(t)
	n.kill()
	seal, err := os.ReadDir(filepath.Join(n.data, "seal"))
	if err != nil || len(seal) == 0 {
		t.Fatalf("the seal holds nothing: %v", err)
	}
	for _, f := range seal {
		path := filepath.Join(n.data, "seal", f.Name())
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, whole[:len(whole)/2], 0o600); err != nil {
			t.Fatal(err)
		}
		n.run("", nil, "serve", "--data", n.data, "--listen", "localhost:0").isWrong(t, "seal")
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(n.data, "seal"), filepath.Join(n.data, "gone")); err != nil {
		t.Fatal(err)
	}
	n.run("", nil, "serve", "--data", n.data, "--listen", "localhost:0").isWrong(t)
	_ = os.RemoveAll(filepath.Join(n.data, "seal"))
	if err := os.Rename(filepath.Join(n.data, "gone"), filepath.Join(n.data, "seal")); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.ok("status")
}
