package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Fetch copies what a path holds. What was copied before an error is its
// beginning, so a path that takes an offset can go on there.
func (c *Client) Fetch(ctx context.Context, path string, w io.Writer) (int64, error) {
	call, err := newCall(http.MethodGet, path, nil, "application/octet-stream")
	if err != nil {
		return 0, err
	}
	resp, err := c.send(ctx, call)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	n, err := io.Copy(w, resp.Body)
	if err != nil {
		return n, fmt.Errorf("the node stopped in the middle, run it again to go on from there: %w", err)
	}
	return n, nil
}
