package auth

import "regexp"

// secret matches what must never be stored or logged in clear: an API key
// (cl_<id>_<secret>, or the beginning of one), a session token (cs_<secret>) and
// an invitation for a new node (cj_<token>).
var secret = regexp.MustCompile(`cl_[0-9a-z]{16}_[0-9A-Za-z]{8,}|cs_[0-9A-Z]{20,}|cj_[0-9A-Za-z_-]{40,}`)

// HoldsSecret reports whether the text contains what looks like an API key, a
// session token or an invitation. It is asked wherever people paste things, so that a key in the
// wrong place is neither stored nor logged.
func HoldsSecret(s string) bool { return secret.MatchString(s) }

// Redact replaces every API key, session token and invitation in the text.
func Redact(s string) string { return secret.ReplaceAllString(s, "[secret removed]") }
