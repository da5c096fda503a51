package proof

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

const epochsPrefix = "epochs/"

// EpochAction is the action of the event that opens an epoch; its detail names
// the epoch's number as "epoch" and its id as "epoch_id".
const EpochAction = "audit.epoch"

// How a log came into a new epoch.
const (
	HowRestored  = "restored"  // from a backup
	HowRecovered = "recovered" // from what one node had, after most nodes were lost
)

// UnknownLost is the Lost of an epoch opened by who did not know what had been.
const UnknownLost = -1

// Epoch is the statement that a log did not simply go on: from record Size on it
// is another than the one before, of which it keeps the first Size records. The
// event at Size opens it. Its text is signed by the log key:
//
//	cloister-epoch/v1
//	<origin>
//	epoch <number> <id>
//	continues <number> [<id>]
//	kept <size> <root>
//	how restored|recovered <from>
//	lost <records>|unknown
//	time <RFC 3339>
type Epoch struct {
	Origin     string    `json:"-"`
	Number     uint64    `json:"epoch"` // grows, but not by one: an epoch may itself be lost by a later restore
	ID         string    `json:"id"`    // tells two epochs of one number apart
	Continues  uint64    `json:"continues"`
	ContinueID string    `json:"-"`
	Size       uint64    `json:"record"` // the record that opens it: so many were kept
	Root       [32]byte  `json:"-"`      // of those kept
	How        string    `json:"how"`
	From       string    `json:"from"` // the backup's or the node's name
	Lost       int64     `json:"lost"` // records that were known and are gone; UnknownLost
	Time       time.Time `json:"time"`
}

const epochLine = "cloister-epoch/v1"

// Text is what is signed.
func (e Epoch) Text() string {
	lost := "unknown"
	if e.Lost >= 0 {
		lost = strconv.FormatInt(e.Lost, 10)
	}
	return fmt.Sprintf("%s\n%s\nepoch %s\ncontinues %s\nkept %d %s\nhow %s %s\nlost %s\ntime %s\n",
		epochLine, e.Origin, epochName(e.Number, e.ID), epochName(e.Continues, e.ContinueID), e.Size, tlog.Hash(e.Root), e.How, e.From,
		lost, e.Time.UTC().Format(time.RFC3339Nano))
}

// epochName spells an epoch: the first has no id.
func epochName(n uint64, id string) string {
	if id == "" {
		return strconv.FormatUint(n, 10)
	}
	return strconv.FormatUint(n, 10) + " " + id
}

var (
	epochIDs = regexp.MustCompile(`^[0-9a-f]{16}$`)
	fromWord = regexp.MustCompile(`^[A-Za-z0-9._-]{1,100}$`)
	errEpoch = errors.New("it is no statement of an epoch")
)

// parseEpochName undoes epochName: only the first epoch has no id.
func parseEpochName(s string) (uint64, string, error) {
	number, id, _ := strings.Cut(s, " ")
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || (n == 1) != (id == "") || id != "" && !epochIDs.MatchString(id) || epochName(n, id) != s {
		return 0, "", errEpoch
	}
	return n, id, nil
}

// ParseEpoch reads the text of an epoch's signed note without verifying it. It
// accepts only what Text writes.
func ParseEpoch(note []byte) (Epoch, error) {
	text, _, _ := strings.Cut(string(note), "\n\n")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(note) > maxCheckpointBytes || len(lines) != 8 || lines[0] != epochLine {
		return Epoch{}, errEpoch
	}
	field := func(i int, name string) string {
		v, ok := strings.CutPrefix(lines[i], name+" ")
		if !ok {
			return ""
		}
		return v
	}
	e := Epoch{Origin: lines[1], Lost: UnknownLost}
	var err [6]error
	e.Number, e.ID, err[0] = parseEpochName(field(2, "epoch"))
	e.Continues, e.ContinueID, err[1] = parseEpochName(field(3, "continues"))
	size, root, _ := strings.Cut(field(4, "kept"), " ")
	e.Size, err[2] = strconv.ParseUint(size, 10, 63)
	hash, bad := tlog.ParseHash(root)
	e.Root, err[3] = hash, bad
	e.How, e.From, _ = strings.Cut(field(5, "how"), " ")
	if lost := field(6, "lost"); lost != "unknown" {
		e.Lost, err[4] = strconv.ParseInt(lost, 10, 64)
	}
	e.Time, err[5] = time.Parse(time.RFC3339Nano, field(7, "time"))
	if errors.Join(err[:]...) != nil || e.How != HowRestored && e.How != HowRecovered || !fromWord.MatchString(e.From) {
		return Epoch{}, errEpoch
	}
	if e.Text() != text+"\n" && e.Text() != text {
		return Epoch{}, errEpoch
	}
	return e, nil
}

// ValidFrom reports whether a name can stand in an epoch as where it came from.
func ValidFrom(s string) bool { return fromWord.MatchString(s) }

// readEpochs checks the statements that lead from the first epoch to the
// checkpoint's: each signed by the log key, each continuing the one before, each
// keeping what the tree holds.
func (b *bundle) readEpochs() {
	number, id, size := uint64(1), "", uint64(0)
	for _, f := range b.files {
		name, ok := strings.CutPrefix(f.name, epochsPrefix)
		if !ok {
			continue
		}
		data, _, ok := b.named(f.name, maxCheckpointBytes)
		if !ok {
			return
		}
		e, err := b.openEpoch(data)
		if err != nil || strconv.FormatUint(e.Number, 10) != name {
			b.add(inFile(f, "epoch %s was not opened by the log key: %v", name, cmp.Or(err, errEpoch)))
			return
		}
		if e.Continues != number || e.ContinueID != id || e.Number <= number || e.Size < size || e.Size >= b.cp.Size {
			b.add(inFile(f, "epoch %d does not follow epoch %d", e.Number, number))
			return
		}
		if err := b.continues(Checkpoint{Size: e.Size, Root: e.Root}); err != nil {
			b.add(inFile(f, "epoch %d does not keep what it says: %v", e.Number, err))
			return
		}
		number, id, size = e.Number, e.ID, e.Size+1
		b.epochs = append(b.epochs, e)
	}
	if number != b.cp.Epoch || id != b.cp.EpochID {
		b.add(&Problem{Kind: Dropped, Record: none, Text: fmt.Sprintf(
			"the log is in epoch %d but the bundle holds no statement of the log key that opened it", b.cp.Epoch)})
		return
	}
	b.report.Epochs, b.stated = b.epochs, true
}

func (b *bundle) openEpoch(note []byte) (Epoch, error) {
	e, err := ParseEpoch(note)
	if err != nil {
		return e, err
	}
	text, _, err := b.ring.open(note, e.Size)
	if err != nil {
		return e, fmt.Errorf("its signature does not fit: %w", err)
	}
	if text != e.Text() || e.Origin != b.ring.origin {
		return e, errors.New("it is of another log")
	}
	return e, nil
}

// epoch checks that a record which opens an epoch is the one that a statement
// speaks of, and that no statement's record is another.
func (s *scanner) epoch(start int64, l *leaf) *Problem {
	if !s.b.stated {
		return nil // what is wrong with the statements was said
	}
	var stated *Epoch
	for i := range s.b.epochs {
		if s.b.epochs[i].Size == s.next {
			stated = &s.b.epochs[i]
		}
	}
	opens := string(l.kind) == "event" && string(l.action) == EpochAction
	if !opens && stated == nil {
		return nil
	}
	if !opens {
		return s.problem(Restored, start, "record %d should open epoch %d and does not", s.next, stated.Number)
	}
	number, id := "", ""
	for _, m := range members(l.detail) {
		switch string(m.name) {
		case "epoch":
			number = string(m.value)
		case "epoch_id":
			id = string(plain(m.value))
		}
	}
	if stated == nil || number != strconv.FormatUint(stated.Number, 10) || id != stated.ID {
		return s.problem(Restored, start, "record %d opens epoch %s, of which the log key made no statement", s.next, number)
	}
	return nil
}
