package proof

import (
	"encoding/json"
	"errors"
	"fmt"
)

// OpenNote opens something else than a bundle that a log key signed: a backup's
// manifest. keys is the key history as JSON; it is trusted when one of its keys
// has the fingerprint noted, and any of them may have signed.
func OpenNote(note, keys []byte, fingerprint string) (string, error) {
	want, err := parseFingerprint(fingerprint)
	if err != nil {
		return "", err
	}
	var history []Key
	if err := json.Unmarshal(keys, &history); err != nil {
		return "", errors.New("it holds no key history")
	}
	ring, err := newKeyring(history, want)
	if err != nil {
		return "", err
	}
	for i := len(ring.verify) - 1; i >= 0; i-- {
		if text, err := openStrict(note, ring.verify[i]); err == nil {
			return text, nil
		}
	}
	return "", fmt.Errorf("the signature of the log key %s does not fit it", want)
}

// OtherLog reports whether an error of OpenNote means that another log's key
// signed, rather than that something was changed.
func OtherLog(err error) bool {
	var unknown *unknownKeyError
	return errors.As(err, &unknown)
}
