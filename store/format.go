package store

import (
	"errors"
	"fmt"
)

// Format numbers what a program writes: the log's groups, the values of every
// room, the files of a data folder and of a backup. A program reads and works at
// every format from OldestFormat to Format.
//
// A cluster works at one format, the cluster format. It is a replicated key,
// never above the Format of any member, and raised only by an explicit finalise.
// Until then a newer program writes what the older ones understand, so going
// back to the older program works; afterwards an older one is refused. A new
// installation begins at Format: there is no older program to go back to.
const (
	Format       = 3
	OldestFormat = 1
)

// ClusterFormat is the key that holds the cluster format: its value is a number
// as made by Number. A cluster without it works at format 1.
const ClusterFormat Key = "H/store/format"

// The formats:
//
//	1  the first
//	2  each group names the node that led, and so whose clock gave its time;
//	   the header of each version keeps it
//	3  nothing on disk is laid out anew; the stored policies may speak of
//	   groups, directories, memories and of who may read what, which a program
//	   of before takes for broken policies, and refuses everything
const (
	// FormatLeader is the first format in which groups name the node that led.
	FormatLeader = 2
	// FormatStarter is the format of today's starter policies: a cluster that an
	// older program began is offered them once it is finalised to it.
	FormatStarter = 3
)

// FormatOf is the format of the cluster whose keys get reads.
func FormatOf(get func(Key) (Item, error)) (int, error) {
	item, err := get(ClusterFormat)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	if have, ok := ParseNumber(string(item.Value)); ok {
		return int(have), nil
	}
	return 1, nil
}

// CheckFormat says why a program of this build cannot work in a cluster, on a
// data folder or with a backup of that format. It is nil when it can.
func CheckFormat(format int) error {
	switch {
	case format > Format:
		return fmt.Errorf("%w: this is format %d and this program knows formats up to %d; install the newer program that wrote it", ErrFormat, format, Format)
	case format < OldestFormat:
		return fmt.Errorf("%w: this is format %d and this program reads formats from %d on; go through a release in between that still reads it", ErrFormat, format, OldestFormat)
	}
	return nil
}
