// Package budget says what things cost and keeps anyone from spending more than
// they may.
//
// It promises: money is integer nano-dollars; an unknown price is an error that
// is also logged as a warning, never zero; what is reserved counts as spent until
// it is settled, so that concurrent calls cannot pass a limit together; totals by
// agent, use case, person, model and run are counters kept in the same
// transaction as the outcome.
//
// It may import store and auth.
package budget

// NanoUSD is an amount of money: a billionth of a US dollar.
type NanoUSD = int64

// Units that are priced and counted. A price for cpu_ns is given per second.
const (
	TokensIn  = "tokens_in"
	TokensOut = "tokens_out"
	CPU       = "cpu_ns"
)
