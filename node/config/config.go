// Package config reads a node's configuration: one TOML file, the environment
// (CLOISTER_ and the key in capitals, with _ for the dot), flags, in rising
// order of precedence.
//
// It promises: an unknown key is an error that names it and the nearest one
// there is; everything is validated before anything starts; what Load returns
// needs no further defaults. It may import nothing of Cloister and alone imports
// viper.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// Config is a node's configuration.
type Config struct {
	Data    string   // the node's folder; everything it keeps is in there
	Listen  string   // host:port
	Node    string   // the node's name, [a-z0-9-]{1,40}; "" = the one that the data folder has, or node-1
	Names   []string // further names and addresses for the node's certificate
	Pack    string   // a model pack to import at start when the node has no model yet; "" = none
	Cluster Cluster
	Log     Log
	Sync    Sync
	Runs    Runs
	History History
	Session Session
	Disk    Disk
	Models  Models

	Unsealed Unsealed
	Backup   Backup
}

// Backup says where backups are made, and how often.
type Backup struct {
	To       string        // the folder; "" = "backups" in the data folder
	Every    time.Duration // 0 = only when somebody asks
	Keep     int           // chains that are kept
	Recovery string        // public recovery key that backups can be opened with; "" = none
}

// Cluster says how the node meets others.
type Cluster struct {
	Peer string // host:port on which the other nodes reach this one; "" = as the data folder remembers, or closed
	Name string // the service's name, in every node's certificate; "" = as the data folder remembers, or none
}

// Unsealed keeps a node's data plain, for a test that must show that it can find
// plaintext. No file, environment or flag sets it.
type Unsealed bool

// Log says what is logged, to standard error.
type Log struct {
	Level  slog.Level
	Format string // "text" or "json"
}

// Sync says how often sources are read again.
type Sync struct {
	Every time.Duration // 0 = only when somebody asks
}

// Runs bounds the agents' work.
type Runs struct {
	Parallel int           // runs that are worked on at once
	Longest  time.Duration // a run may take so long
	Keep     time.Duration // a run that ended longer ago is forgotten
}

// History says how far back the past can be read.
type History struct {
	Keep time.Duration // at least Runs.Keep, since a run's citations are read as they were; 0 = for ever
}

// Session bounds how long somebody stays signed in.
type Session struct {
	Idle time.Duration
	Life time.Duration
}

// Disk keeps room free.
type Disk struct {
	ReserveBytes int64 // writes stop when less than this is free
}

// Models bounds local inference.
type Models struct {
	Local   bool // false: this node takes no models from the others, it asks them
	Threads int  // for one model; 0 = one less than there are cores
	Context int  // tokens of a prompt and its answer together
}

// key is one setting: its name in the file, its default, and its flag's help.
// Values travel as text, so that file, environment and flag are read alike.
type key struct {
	name, def, help string
	set             func(*Config, string) error
}

// keys lists every setting.
func keys() []key {
	return []key{
		{"data", "", "folder for everything the node keeps (required)", setData},
		{"listen", "localhost:8443", "address to listen on, host:port", setListen},
		{"node", "", "the node's name; node-1 in a new data folder", setNode},
		{"cluster.peer", "", "address on which other nodes reach this one, host:port; closed when not given", setPeer},
		{"cluster.name", "", "host name of the service as a whole, for every node's certificate", setService},
		{"names", "", "further host names and addresses for its certificate, separated by commas", setNames},
		{"pack", "", "model pack to import when the node has no model yet", func(c *Config, s string) error { c.Pack = s; return nil }},
		{"log.level", "info", "debug, info, warn or error", func(c *Config, s string) error { return c.Log.Level.UnmarshalText([]byte(s)) }},
		{"log.format", "text", "text or json", oneOf(func(c *Config) *string { return &c.Log.Format }, "text", "json")},
		{"sync.every", "5m", "how often sources are read again, 0 = only on request", span(func(c *Config) *time.Duration { return &c.Sync.Every }, 0, 24*time.Hour)},
		{"runs.parallel", "32", "runs that are worked on at once", number(func(c *Config) *int { return &c.Runs.Parallel }, 1, 1024)},
		{"runs.longest", "10m", "how long one run may take", span(func(c *Config) *time.Duration { return &c.Runs.Longest }, time.Second, 24*time.Hour)},
		{"runs.keep", "2160h", "a run that ended longer ago is forgotten; the audit record is not", span(func(c *Config) *time.Duration { return &c.Runs.Keep }, time.Hour, 10*366*24*time.Hour)},
		{"history.keep", "2160h", "how far back the past can be read, at least runs.keep; then its space is given back; 0 = for ever", span(func(c *Config) *time.Duration { return &c.History.Keep }, 0, 100*366*24*time.Hour)},
		{"session.idle", "12h", "a session unused for so long ends", span(func(c *Config) *time.Duration { return &c.Session.Idle }, time.Minute, 30*24*time.Hour)},
		{"session.life", "168h", "a session so old ends", span(func(c *Config) *time.Duration { return &c.Session.Life }, time.Minute, 366*24*time.Hour)},
		{"disk.reserve", "512MiB", "writes stop when less than this is free", setReserve},
		{"backup.to", "", "folder that backups are made in, best on another disk; backups in the data folder when not given", setBackupTo},
		{"backup.every", "0", "how often a backup is made, by the node that leads; 0 = only on request", span(func(c *Config) *time.Duration { return &c.Backup.Every }, 0, 366*24*time.Hour)},
		{"backup.keep", "4", "chains of backups that are kept, a chain being a full one and those that build on it", number(func(c *Config) *int { return &c.Backup.Keep }, 1, 1000)},
		{"backup.recovery", "", "public recovery key for which backups carry the root key; see: cloister backup keygen", setRecovery},
		{"models.local", "true", "whether this node holds the models that were imported on others; false = it asks them", setLocal},
		{"models.threads", "0", "threads for one model, 0 = one less than there are cores", number(func(c *Config) *int { return &c.Models.Threads }, 0, 1024)},
		{"models.context", "4096", "tokens of a prompt and its answer together", number(func(c *Config) *int { return &c.Models.Context }, 256, 1<<20)},
	}
}

// AddFlags adds a flag for each setting, with "-" for the dot, and --config.
func AddFlags(fs *pflag.FlagSet) {
	fs.String("config", "", "configuration file (TOML)")
	for _, k := range keys() {
		fs.String(flagName(k.name), k.def, k.help)
	}
}

func flagName(name string) string { return strings.ReplaceAll(name, ".", "-") }

func envName(name string) string {
	return "CLOISTER_" + strings.ToUpper(strings.ReplaceAll(name, ".", "_"))
}

// Load reads the flags that AddFlags added and were parsed, the environment and
// the file that --config or CLOISTER_CONFIG names.
func Load(fs *pflag.FlagSet) (Config, error) {
	file := os.Getenv("CLOISTER_CONFIG")
	if f := fs.Lookup("config"); f != nil && f.Changed {
		file = f.Value.String()
	}
	v := viper.New()
	for _, k := range keys() {
		v.SetDefault(k.name, k.def)
		if err := v.BindEnv(k.name, envName(k.name)); err != nil {
			return Config{}, err
		}
		if err := v.BindPFlag(k.name, fs.Lookup(flagName(k.name))); err != nil {
			return Config{}, err
		}
	}
	if file != "" {
		if err := readFile(v, file); err != nil {
			return Config{}, err
		}
	}
	if err := checkEnvironment(os.Environ()); err != nil {
		return Config{}, err
	}
	var c Config
	for _, k := range keys() {
		text := v.GetString(k.name)
		if k.name == "names" {
			text = strings.Join(v.GetStringSlice(k.name), ",")
		}
		if err := k.set(&c, strings.TrimSpace(text)); err != nil {
			return Config{}, fmt.Errorf("%s = %q: %w", k.name, text, err)
		}
	}
	if c.History.Keep > 0 {
		c.History.Keep = max(c.History.Keep, c.Runs.Keep)
	}
	return c, c.validate()
}

func readFile(v *viper.Viper, file string) error {
	f := viper.New()
	f.SetConfigFile(file)
	f.SetConfigType("toml")
	if err := f.ReadInConfig(); err != nil {
		var missing *os.PathError
		if errors.As(err, &missing) {
			return fmt.Errorf("read configuration: %w", missing)
		}
		return fmt.Errorf("configuration %s is not valid TOML: %s", file, firstLine(err))
	}
	known := names()
	unknown := f.AllKeys()
	slices.Sort(unknown)
	for _, name := range unknown {
		if !slices.Contains(known, name) {
			return fmt.Errorf("configuration %s: there is no setting %q; the nearest is %q", file, name, nearest(name, known))
		}
	}
	return v.MergeConfigMap(f.AllSettings())
}

// checkEnvironment refuses a variable that looks like a mistyped setting. Others
// with the prefix may belong to something else.
func checkEnvironment(environ []string) error {
	var known []string
	for _, n := range names() {
		known = append(known, envName(n))
	}
	others := []string{"CLOISTER_CONFIG", "CLOISTER_URL", "CLOISTER_CA", "CLOISTER_TOKEN"}
	for _, e := range environ {
		name, _, _ := strings.Cut(e, "=")
		if !strings.HasPrefix(name, "CLOISTER_") || slices.Contains(known, name) || slices.Contains(others, name) {
			continue
		}
		if near := nearest(name, known); distance(name, near) <= 2 {
			return fmt.Errorf("environment: there is no setting %s; the nearest is %s", name, near)
		}
	}
	return nil
}

func names() []string {
	var out []string
	for _, k := range keys() {
		out = append(out, k.name)
	}
	return out
}

func (c Config) validate() error {
	if c.Data == "" {
		return errors.New("say where the node keeps its data: --data DIR")
	}
	if c.Backup.Every > 0 && c.Backup.Every < time.Minute {
		return errors.New("backup.every is at least 1m, or 0 for none")
	}
	if c.Session.Idle > c.Session.Life {
		return errors.New("session.idle is longer than session.life")
	}
	if c.Pack != "" {
		if st, err := os.Stat(c.Pack); err != nil || !st.Mode().IsRegular() {
			return fmt.Errorf("pack = %q: there is no such file", c.Pack)
		}
	}
	return nil
}

func setData(c *Config, s string) (err error) {
	if s == "" {
		return nil
	}
	c.Data, err = filepath.Abs(s)
	return err
}

func setListen(c *Config, s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("an address is HOST:PORT, like localhost:8443")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return errors.New("a port is a number from 0 to 65535, where 0 takes a free one")
	}
	if strings.ContainsAny(host, " /") {
		return errors.New("the host is a name or an IP address")
	}
	c.Listen = s
	return nil
}

var nodeName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$`)

func setLocal(c *Config, s string) (err error) {
	if c.Models.Local, err = strconv.ParseBool(s); err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

func setNode(c *Config, s string) error {
	if s != "" && !nodeName.MatchString(s) {
		return errors.New("a node's name has 1 to 40 characters of a-z, 0-9 and -")
	}
	c.Node = s
	return nil
}

var certificateName = regexp.MustCompile(`^[A-Za-z0-9*]([A-Za-z0-9.-]{0,252})$`)

func setNames(c *Config, s string) error {
	for name := range strings.SplitSeq(s, ",") {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
		case net.ParseIP(name) != nil, certificateName.MatchString(name):
			c.Names = append(c.Names, name)
		default:
			return fmt.Errorf("%q is neither a host name nor an address", name)
		}
	}
	return nil
}

// setPeer takes an address that other machines can dial: it must name this one.
func setPeer(c *Config, s string) error {
	if s == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return errors.New("an address is HOST:PORT, like 10.0.0.2:8444")
	}
	if ip := net.ParseIP(host); host == "" || strings.ContainsAny(host, " /") || ip != nil && ip.IsUnspecified() {
		return errors.New("the host names this machine as the other nodes reach it, like 10.0.0.2")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return errors.New("a port is a number from 1 to 65535")
	}
	c.Cluster.Peer = s
	return nil
}

func setService(c *Config, s string) error {
	if s != "" && net.ParseIP(s) == nil && !certificateName.MatchString(s) {
		return errors.New("it is a host name, like cloister.example.org")
	}
	c.Cluster.Name = s
	return nil
}

func setBackupTo(c *Config, s string) (err error) {
	if s == "" {
		return nil
	}
	c.Backup.To, err = filepath.Abs(s)
	return err
}

func setRecovery(c *Config, s string) error {
	if s != "" && !strings.HasPrefix(s, "cloister-recovery-key-v1:") {
		return errors.New("it is what cloister backup keygen printed, cloister-recovery-key-v1:…")
	}
	c.Backup.Recovery = s
	return nil
}

func setReserve(c *Config, s string) error {
	n, err := parseBytes(s)
	if err != nil {
		return err
	}
	if n < 16<<20 {
		return errors.New("keep at least 16MiB free")
	}
	c.Disk.ReserveBytes = n
	return nil
}

func parseBytes(s string) (int64, error) {
	factor := int64(1)
	for _, u := range []struct {
		suffix string
		factor int64
	}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}} {
		if rest, ok := strings.CutSuffix(s, u.suffix); ok {
			s, factor = strings.TrimSpace(rest), u.factor
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/factor {
		return 0, errors.New("a size is a number with KiB, MiB, GiB or TiB, like 512MiB")
	}
	return n * factor, nil
}

func oneOf(field func(*Config) *string, values ...string) func(*Config, string) error {
	return func(c *Config, s string) error {
		if !slices.Contains(values, s) {
			return fmt.Errorf("it is one of %s", strings.Join(values, ", "))
		}
		*field(c) = s
		return nil
	}
}

func span(field func(*Config) *time.Duration, low, high time.Duration) func(*Config, string) error {
	return func(c *Config, s string) error {
		d, err := time.ParseDuration(s)
		if s == "0" {
			d, err = 0, nil
		}
		if err != nil || d < low || d > high {
			return fmt.Errorf("a time from %v to %v, like 90s, 5m or 12h", low, high)
		}
		*field(c) = d
		return nil
	}
}

func number(field func(*Config) *int, low, high int) func(*Config, string) error {
	return func(c *Config, s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("a number from %d to %d", low, high)
		}
		*field(c) = n
		return nil
	}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
