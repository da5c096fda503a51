package budget

import (
	"bytes"
	"cmp"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/cloister-os/cloister/store"
	"github.com/cloister-os/cloister/store/schema"
)

// ErrUnknownPrice is the kind of a cost that cannot be said because the catalogue
// has no price in force. Whoever gets it must refuse the act, not call it free.
var ErrUnknownPrice = errors.New("no price is known")

// LocalPrefix begins the price name of a model of the embedded engine.
const LocalPrefix = "local/"

// Bounds of a price file.
const (
	maxPriceFile = 4 << 20
	maxPrices    = 20_000
)

const imported store.Space = "H/price/" // model, unit, from → storedPrice

//go:embed prices.json
var defaultPrices []byte

// Price is what units of one kind cost from a day on, until a later price for the
// same model and unit.
type Price struct {
	Model   string  `json:"model"`    // exact, or a beginning and *
	Unit    string  `json:"unit"`     // "tokens_in", "tokens_out", "cpu_ns", …
	NanoUSD NanoUSD `json:"nano_usd"` // for Per units
	Per     int64   `json:"per"`
	From    string  `json:"from"` // "2006-01-02", UTC
}

func (p Price) valid() error {
	_, err := time.Parse(time.DateOnly, p.From)
	switch {
	case p.Model == "" || strings.Contains(strings.TrimSuffix(p.Model, "*"), "*"):
		return fmt.Errorf("a price names a model, or the beginning of one and a final *")
	case p.Unit == "":
		return fmt.Errorf("the price of %s names no unit", p.Model)
	case p.NanoUSD < 0 || p.Per <= 0:
		return fmt.Errorf("the price of %s is not so many nano-dollars per so many units", p.Model)
	case err != nil:
		return fmt.Errorf("the price of %s begins on a day like 2026-01-31, not %q", p.Model, p.From)
	}
	return nil
}

// priceFile is the form of prices.json.
type priceFile struct {
	V       int     `json:"v"`
	Comment string  `json:"comment"`
	Prices  []Price `json:"prices"`
}

type storedPrice struct {
	V       uint  `cbor:"v"`
	NanoUSD int64 `cbor:"nano_usd"`
	Per     int64 `cbor:"per"`
}

// Prices is the price catalogue: the embedded file and what was imported. It is
// safe for concurrent use.
type Prices struct {
	store  store.Store
	logger *slog.Logger
	now    atomic.Pointer[catalogue]
}

// NewPrices reads the catalogue. Call Run to follow imports of other nodes.
func NewPrices(ctx context.Context, st store.Store, logger *slog.Logger) (*Prices, error) {
	if logger == nil {
		logger = slog.Default()
	}
	p := &Prices{store: st, logger: logger}
	if err := p.reload(ctx); err != nil {
		return nil, fmt.Errorf("read the prices: %w", err)
	}
	return p, nil
}

// Cost is what the usage of the model costs at that time, rounded up to the
// nano-dollar. Units that count but are not priced ("bytes", "rows") must not be
// in usage: for a unit without a price the error matches ErrUnknownPrice, and a
// warning is logged.
func (p *Prices) Cost(model string, usage map[string]int64, at time.Time) (NanoUSD, error) {
	var sum NanoUSD
	for unit, n := range usage {
		if n < 0 {
			return 0, fmt.Errorf("%w: a usage of %d %s", store.ErrInvalid, n, unit)
		}
		price, ok := p.now.Load().find(model, unit, at)
		if !ok {
			p.logger.Warn("No price is known, so the act is refused: import a price.", "model", model, "unit", unit, "at", at.UTC().Format(time.DateOnly))
			return 0, fmt.Errorf("%w for %s of %s: import a price file with one", ErrUnknownPrice, unit, model)
		}
		cost, ok := multiply(n, price)
		if !ok || cost > math.MaxInt64-sum {
			return 0, fmt.Errorf("%w: the cost of %d %s of %s is beyond 64 bits", store.ErrInvalid, n, unit, model)
		}
		sum += cost
	}
	return sum, nil
}

// multiply is n × price, rounded up, in 128 bits.
func multiply(n int64, price Price) (NanoUSD, bool) {
	hi, lo := bits.Mul64(uint64(n), uint64(price.NanoUSD))
	lo, carry := bits.Add64(lo, uint64(price.Per)-1, 0)
	hi += carry
	if hi >= uint64(price.Per) {
		return 0, false
	}
	q, _ := bits.Div64(hi, lo, uint64(price.Per))
	return int64(q), q <= math.MaxInt64
}

// name is what prices are looked up by.
type name struct{ model, unit string }

// catalogue is one immutable state of all prices; each list is by day.
type catalogue map[name][]Price

func (c catalogue) add(p Price) {
	key := name{p.Model, p.Unit}
	list := slices.DeleteFunc(c[key], func(o Price) bool { return o.From == p.From })
	list = append(list, p)
	slices.SortFunc(list, func(a, b Price) int { return strings.Compare(a.From, b.From) })
	c[key] = list
}

// find is the price in force: of the most exact name that has one, the newest
// that has begun.
func (c catalogue) find(model, unit string, at time.Time) (Price, bool) {
	day := at.UTC().Format(time.DateOnly)
	if p, ok := begun(c[name{model, unit}], day); ok {
		return p, true
	}
	for i := len(model); i >= 0; i-- {
		if p, ok := begun(c[name{model[:i] + "*", unit}], day); ok {
			return p, true
		}
	}
	return Price{}, false
}

func begun(list []Price, day string) (Price, bool) {
	for _, p := range slices.Backward(list) {
		if p.From <= day {
			return p, true
		}
	}
	return Price{}, false
}

// List returns the catalogue by model, unit and day.
func (p *Prices) List() []Price {
	var all []Price
	for _, list := range *p.now.Load() {
		all = append(all, list...)
	}
	slices.SortFunc(all, func(a, b Price) int {
		return cmp.Or(strings.Compare(a.Model, b.Model), strings.Compare(a.Unit, b.Unit), strings.Compare(a.From, b.From))
	})
	return all
}

// Import checks a price file and stores its prices beside those that are there; a
// price for the same model, unit and day is replaced. It changes all or nothing
// of what is wrong in the file, and each chunk of 500 prices at once. The caller
// has passed the guard.
func (p *Prices) Import(ctx context.Context, r io.Reader) (int, error) {
	prices, err := parsePrices(r)
	if err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(prices, 500) {
		tx := store.NewTx()
		for _, price := range chunk {
			tx.Put(imported.Key(price.Model, price.Unit, price.From), schema.MustEncode(storedPrice{V: 1, NanoUSD: price.NanoUSD, Per: price.Per}))
		}
		if _, err := p.store.Apply(ctx, tx); err != nil {
			return 0, fmt.Errorf("store the prices: %w", err)
		}
	}
	return len(prices), p.reload(ctx)
}

func parsePrices(r io.Reader) ([]Price, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPriceFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the price file: %w", err)
	}
	if len(b) > maxPriceFile {
		return nil, fmt.Errorf("%w: a price file holds at most %d bytes", store.ErrTooLarge, maxPriceFile)
	}
	var file priceFile
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&file); err != nil {
		return nil, fmt.Errorf("%w: the price file is not as it should be: %w", store.ErrInvalid, err)
	}
	if file.V != 1 || len(file.Prices) == 0 || len(file.Prices) > maxPrices {
		return nil, fmt.Errorf("%w: a price file is of version 1 and holds 1 to %d prices", store.ErrInvalid, maxPrices)
	}
	for i, price := range file.Prices {
		if err := price.valid(); err != nil {
			return nil, fmt.Errorf("%w: price %d: %w", store.ErrInvalid, i+1, err)
		}
	}
	return file.Prices, nil
}

// Run follows imports until the context ends.
func (p *Prices) Run(ctx context.Context) error {
	from := p.store.Applied()
	if err := p.reload(ctx); err != nil {
		return fmt.Errorf("read the prices: %w", err)
	}
	for {
		for change, err := range p.store.Watch(ctx, imported.Prefix(), from) {
			if ctx.Err() != nil {
				return nil
			}
			if errors.Is(err, store.ErrCompacted) {
				from = p.store.Applied()
				break
			}
			if err != nil {
				return fmt.Errorf("follow the prices: %w", err)
			}
			from = change.Version
			if err := p.reload(ctx); err != nil {
				return fmt.Errorf("read the prices: %w", err)
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := p.reload(ctx); err != nil {
			return fmt.Errorf("read the prices: %w", err)
		}
	}
}

func (p *Prices) reload(ctx context.Context) error {
	prices, err := parsePrices(bytes.NewReader(defaultPrices))
	if err != nil {
		return err
	}
	all := catalogue{}
	for _, price := range prices {
		all.add(price)
	}
	err = p.store.View(ctx, store.Fresh, func(s store.Snapshot) error {
		for item, err := range s.Scan(imported.Prefix(), "") {
			if err != nil {
				return err
			}
			parts, ok := imported.Parts(item.Key)
			var v storedPrice
			if !ok || len(parts) != 3 || cbor.Unmarshal(item.Value, &v) != nil {
				return fmt.Errorf("the price at key %q cannot be read", item.Key)
			}
			price := Price{Model: parts[0], Unit: parts[1], NanoUSD: v.NanoUSD, Per: v.Per, From: parts[2]}
			if err := price.valid(); err != nil {
				return fmt.Errorf("the price at key %q: %w", item.Key, err)
			}
			all.add(price)
		}
		return nil
	})
	if err == nil {
		p.now.Store(&all)
	}
	return err
}
