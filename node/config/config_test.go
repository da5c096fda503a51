package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func load(t *testing.T, file string, args ...string) (Config, error) {
	t.Helper()
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	AddFlags(fs)
	if file != "" {
		path := filepath.Join(t.TempDir(), "cloister.toml")
		if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", path)
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return Load(fs)
}

func TestDefaultsNeedOnlyAFolder(t *testing.T) {
	c, err := load(t, "", "--data", "d")
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(c.Data) || c.Listen != "localhost:8443" || c.Sync.Every != 5*time.Minute ||
		c.Disk.ReserveBytes != 512<<20 || c.Log.Level != slog.LevelInfo || c.Runs.Parallel != 32 {
		t.Errorf("%+v", c)
	}
}

func TestFlagsWinOverEnvironmentWinsOverFile(t *testing.T) {
	file := "data = \"/from-file\"\nlisten = \"0.0.0.0:1\"\nnames = [\"a.example\", \"10.0.0.1\"]\n[runs]\nparallel = 7\n[log]\nlevel = \"debug\"\n"
	t.Setenv("CLOISTER_LISTEN", "0.0.0.0:2")
	t.Setenv("CLOISTER_RUNS_PARALLEL", "8")
	c, err := load(t, file, "--runs-parallel", "9")
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "/from-file" || c.Listen != "0.0.0.0:2" || c.Runs.Parallel != 9 || c.Log.Level != slog.LevelDebug || len(c.Names) != 2 {
		t.Errorf("%+v", c)
	}
}

func TestHistoryIsKeptAsLongAsTheRunsThatCiteIt(t *testing.T) {
	for file, want := range map[string]time.Duration{
		"":                              2160 * time.Hour,
		"[runs]\nkeep = \"5000h\"\n":    5000 * time.Hour,
		"[history]\nkeep = \"5000h\"\n": 5000 * time.Hour,
		"[history]\nkeep = \"24h\"\n":   2160 * time.Hour,
		"[history]\nkeep = \"0\"\n":     0,
	} {
		if c, err := load(t, file, "--data", "d"); err != nil || c.History.Keep != want {
			t.Errorf("%q: %v, %v, not %v", file, c.History.Keep, err, want)
		}
	}
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"unknown key", "[run]\nparalel = 3\n", `there is no setting "run.paralel"; the nearest is "runs.parallel"`},
		{"not TOML", "data = \n", "is not valid TOML"},
		{"bad address", "listen = \"8443\"\n", "HOST:PORT"},
		{"bad time", "[sync]\nevery = \"often\"\n", `sync.every = "often": a time from 0s`},
		{"bad number", "[runs]\nparallel = 0\n", "a number from 1 to 1024"},
		{"bad size", "[disk]\nreserve = \"much\"\n", "like 512MiB"},
		{"bad name", "node = \"Node One\"\n", "a-z, 0-9 and -"},
		{"a peer address that names nobody", "[cluster]\npeer = \"0.0.0.0:8444\"\n", "names this machine"},
		{"a peer address without a port", "[cluster]\npeer = \"10.0.0.2\"\n", "HOST:PORT"},
		{"bad service name", "[cluster]\nname = \"our house\"\n", "host name"},
		{"bad pack", "pack = \"/no/such/pack\"\n", "there is no such file"},
		{"idle longer than life", "[session]\nidle = \"2h\"\nlife = \"1h\"\n", "session.idle is longer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := load(t, tt.file, "--data", "d")
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, tt.want)
			}
		})
	}
	if _, err := load(t, ""); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("without a folder: %v", err)
	}
}

func TestAMistypedVariableIsAnError(t *testing.T) {
	t.Setenv("CLOISTER_LISTN", "x")
	if _, err := load(t, "", "--data", "d"); err == nil || !strings.Contains(err.Error(), "CLOISTER_LISTEN") {
		t.Errorf("error %v", err)
	}
}
