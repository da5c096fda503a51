// Package view holds the pages: one templ file a screen, and the plain structs
// that each of them shows.
//
// It promises pages that are valid, accessible and free of inline script and
// style, and that escape whatever they show; it decides nothing and reads
// nothing. It may import the rooms' types below ui and ui/asset.
package view
