// Package view renders Cloister's pages: one templ file per screen, and the
// plain structs that a screen shows.
//
// It promises: semantic HTML that works without script; no inline script, style
// or event handler; every text escaped; sizes of lists are the caller's duty.
// It decides nothing and reads nothing: what a person may see was settled
// before. It may import ui/asset and nothing else of Cloister.
package view
