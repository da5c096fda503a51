package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/cloister-os/cloister/cmd/cloister/client"
	"github.com/cloister-os/cloister/node/api/wire"
)

const (
	chunk     = 8 << 20 // bytes of one request
	maxChunks = 1 << 20
	maxBreaks = 5 // in a row, of sending a file
)

// send uploads a file and returns its hash, by which the node knows it. What the
// node has already is not sent again.
func send(cmd *cobra.Command, path string) (hash string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() == 0 {
		return "", fmt.Errorf("%s is not a model: it is empty or not a file", path)
	}
	c, err := dial()
	if err != nil {
		return "", err
	}
	b := newBar()
	defer b.clear()
	if hash, err = hashFile(f, info.Size(), b); err != nil {
		return "", err
	}
	return hash, sendFile(cmd, c, f, info.Size(), hash, b)
}

func hashFile(f *os.File, total int64, b *bar) (string, error) {
	h := sha256.New()
	for done := int64(0); ; {
		n, err := io.CopyN(h, f, chunk)
		done += n
		b.show("checking", done, total, size(done))
		if errors.Is(err, io.EOF) {
			return hex.EncodeToString(h.Sum(nil)), nil
		}
		if err != nil {
			return "", err
		}
	}
}

func sendFile(cmd *cobra.Command, c *client.Client, f *os.File, total int64, hash string, b *bar) error {
	var have wire.Upload
	path := "/api/v1/uploads/" + hash
	if err := c.Do(cmd.Context(), "GET", path, nil, &have); err != nil {
		return err
	}
	breaks := 0
	for range maxChunks {
		if have.Offset == total {
			return nil
		}
		if have.Offset > total {
			return fmt.Errorf("the node has more of the file than there is: it changed while it was sent, so run it again")
		}
		n := min(chunk, total-have.Offset)
		part := io.NewSectionReader(f, have.Offset, n)
		if err := c.Put(cmd.Context(), fmt.Sprintf("%s?offset=%d", path, have.Offset), part, n, &have); err != nil {
			// How much arrived is asked anew, of the node that answers: another one
			// may have none of it.
			if breaks++; breaks > maxBreaks || cmd.Context().Err() != nil {
				return err
			}
			if again := c.Do(cmd.Context(), "GET", path, nil, &have); again != nil {
				return err
			}
			continue
		}
		breaks = 0
		b.show("sending", have.Offset, total, size(have.Offset)+" of "+size(total))
	}
	return errors.New("the file is too large")
}
