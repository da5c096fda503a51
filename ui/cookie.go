package ui

import (
	"net/http"

	"github.com/cloister-os/cloister/auth/session"
)

// sessionCookie is the name that session.Service.Authenticate reads.
const sessionCookie = "__Host-cloister"

func setSession(w http.ResponseWriter, s session.Session, token string) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Value: token, Path: "/", Expires: s.Expires, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}

func clearSession(w http.ResponseWriter) {
	http.SetCookie(w, &http.Cookie{Name: sessionCookie, Path: "/", MaxAge: -1, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode})
}
