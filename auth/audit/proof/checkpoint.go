package proof

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is the text of a C2SP tlog-checkpoint: origin, size and root hash,
// then two extension lines of ours, "epoch N" (from the second on with its id) and
// "time RFC3339".
type Checkpoint struct {
	Origin string
	Size   uint64
	Root   [32]byte
	Epoch  uint64 // 1 until the log is first restored from a backup, see Epoch
	// EpochID tells apart two epochs of one number; empty in the first epoch.
	EpochID string
	Time    time.Time // leader time of the newest record covered, UTC
}

// maxCheckpointBytes bounds a checkpoint's note.
const maxCheckpointBytes = 4 << 10

// Text is what is signed.
func (c Checkpoint) Text() string {
	return fmt.Sprintf("%s\n%d\n%s\nepoch %s\ntime %s\n",
		c.Origin, c.Size, tlog.Hash(c.Root), epochName(c.Epoch, c.EpochID), c.Time.UTC().Format(time.RFC3339Nano))
}

var errCheckpoint = errors.New("it is not a checkpoint of a Cloister audit log")

// ParseCheckpoint reads a checkpoint's text, or the text of its signed note,
// without verifying any signature. It accepts only what Text writes.
func ParseCheckpoint(note []byte) (Checkpoint, error) {
	text := string(note)
	if i := bytes.Index(note, []byte("\n\n")); i >= 0 {
		text = text[:i+1]
	}
	lines := strings.Split(text, "\n")
	if len(note) > maxCheckpointBytes || len(lines) != 6 {
		return Checkpoint{}, errCheckpoint
	}
	size, err1 := strconv.ParseInt(lines[1], 10, 64)
	root, err2 := tlog.ParseHash(lines[2])
	epoch, epochID, err3 := parseEpochName(strings.TrimPrefix(lines[3], "epoch "))
	at, err4 := time.Parse(time.RFC3339Nano, strings.TrimPrefix(lines[4], "time "))
	if errors.Join(err1, err2, err3, err4) != nil || size < 0 {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0], Size: uint64(size), Root: root, Epoch: epoch, EpochID: epochID, Time: at}
	if c.Text() != text {
		return Checkpoint{}, errCheckpoint
	}
	return c, nil
}
