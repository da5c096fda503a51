package session

import (
	"context"
	"errors"
	"net/http"

	"github.com/cloister-os/cloister/auth"
)

// Service knows users, sessions and keys. It is safe for concurrent use.
type Service struct{ cfg Config }

var errUnready = errors.New("sign-in is not ready")

func newService(cfg Config) (*Service, error)                   { return &Service{cfg}, nil }
func (s *Service) newSetupCode(context.Context) (string, error) { return "", errUnready }
func (s *Service) setupNeeded(context.Context) (bool, error)    { return false, errUnready }
func (s *Service) setup(context.Context, string, string, string) (Session, string, error) {
	return Session{}, "", errUnready
}
func (s *Service) login(context.Context, string, string) (Session, string, error) {
	return Session{}, "", errUnready
}
func (s *Service) logout(context.Context, *http.Request) error { return errUnready }
func (s *Service) authenticate(*http.Request) (auth.Principal, error) {
	return auth.Principal{}, errUnready
}
func (s *Service) middleware(next http.Handler) http.Handler { return next }
func (s *Service) createKey(context.Context, auth.Principal, KeySpec) (Key, string, error) {
	return Key{}, "", errUnready
}
func (s *Service) listKeys(context.Context, auth.Principal) ([]Key, error) { return nil, errUnready }
func (s *Service) revokeKey(context.Context, auth.Principal, string) error { return errUnready }
