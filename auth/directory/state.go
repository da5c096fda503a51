package directory

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// State is what an account is to its directory.
type State string

// The states. Only an Active person may sign in.
const (
	Active          State = "active"
	Disabled        State = "disabled"
	Locked          State = "locked"
	Expired         State = "expired"          // the account
	PasswordExpired State = "password-expired" // as it was
	MustChange      State = "must-change"      // the password, at the next sign-in elsewhere
	OutsideHours    State = "outside-hours"    // or not at this place
	WrongPassword   State = "wrong-password"
	Unknown         State = "unknown" // no entry matches
)

// RefusedError says precisely why a sign-in was refused, for the record and the
// log. Whoever tried is told ErrRefused alone: directories say most of these only
// to who knows the right password.
type RefusedError struct {
	State State
	ID    string // the person's, "" for an unknown one
}

func (e *RefusedError) Error() string { return fmt.Sprintf("%v: %s", ErrRefused, e.State) }

// Is makes errors.Is(err, ErrRefused) true.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

var dataCode = regexp.MustCompile(`data ([0-9a-f]{3,8})`)

// refusal reads why a bind failed; nil when the error says nothing about the
// person. Active Directory hides the reason in the diagnostic text (a Windows
// error number in hexadecimal); others say no more than "invalid credentials".
func refusal(err error) *RefusedError {
	var e *ldap.Error
	if !errors.As(err, &e) {
		return nil
	}
	switch e.ResultCode {
	case ldap.LDAPResultInvalidCredentials:
	case ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultNoSuchObject:
		return &RefusedError{State: WrongPassword}
	case ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation:
		return &RefusedError{State: Disabled}
	default:
		return nil
	}
	states := map[string]State{
		"525": Unknown, "52e": WrongPassword, "530": OutsideHours, "531": OutsideHours, "532": PasswordExpired,
		"533": Disabled, "701": Expired, "773": MustChange, "775": Locked,
	}
	if e.Err != nil {
		if m := dataCode.FindStringSubmatch(e.Err.Error()); m != nil {
			if s, ok := states[m[1]]; ok {
				return &RefusedError{State: s}
			}
		}
	}
	return &RefusedError{State: WrongPassword}
}

// Bits of userAccountControl and of its computed part.
const (
	bitDisabled        = 0x2
	bitLocked          = 0x10
	bitPasswordExpired = 0x800000
)

// stateOf reads an account's state from its entry. It is asked when somebody
// signs in and again whenever what they may do is looked at anew, so that an
// account that is disabled ends what its sessions may do.
func stateOf(k Kind, e *ldap.Entry, now time.Time) State {
	if k == ActiveDirectory {
		return stateOfAD(e, now)
	}
	switch {
	case strings.EqualFold(e.GetAttributeValue("nsAccountLock"), "true"):
		return Disabled
	case e.GetAttributeValue("pwdAccountLockedTime") != "":
		return Locked
	case strings.EqualFold(e.GetAttributeValue("pwdReset"), "true"):
		return MustChange
	}
	if days, err := strconv.ParseInt(e.GetAttributeValue("shadowExpire"), 10, 64); err == nil && days > 0 && now.Unix() >= days*86400 {
		return Expired
	}
	return Active
}

func stateOfAD(e *ldap.Entry, now time.Time) State {
	control, _ := strconv.ParseInt(e.GetAttributeValue("userAccountControl"), 10, 64)
	computed, _ := strconv.ParseInt(e.GetAttributeValue("msDS-User-Account-Control-Computed"), 10, 64)
	expires, _ := strconv.ParseInt(e.GetAttributeValue("accountExpires"), 10, 64)
	switch {
	case control&bitDisabled != 0:
		return Disabled
	case computed&bitLocked != 0:
		return Locked
	case expires > 0 && expires < 1<<62 && !now.Before(fileTime(expires)):
		return Expired
	case e.GetAttributeValue("pwdLastSet") == "0":
		return MustChange
	case computed&bitPasswordExpired != 0:
		return PasswordExpired
	}
	return Active
}

// fileTime is Windows' time: 100 ns since 1601.
func fileTime(t int64) time.Time {
	const from1601 = 11644473600
	return time.Unix(t/1e7-from1601, t%1e7*100)
}
