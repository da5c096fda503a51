package auth

import "regexp"

// apiKey matches an API key or the beginning of one: prefix, public id, secret.
var apiKey = regexp.MustCompile(`cl_[0-9a-z]{16}_[0-9A-Za-z]{8,}`)

// HoldsSecret reports whether the text contains what looks like an API key. It
// is asked wherever people paste things, so that a key in the wrong place is
// neither stored nor logged.
func HoldsSecret(s string) bool { return apiKey.MatchString(s) }

// Redact replaces every API key in the text.
func Redact(s string) string { return apiKey.ReplaceAllString(s, "[API key removed]") }
