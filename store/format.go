package store

import "fmt"

// Format numbers what a program writes: the log's groups, the values of every
// room, the files of a data folder and of a backup. A program reads and works at
// every format from OldestFormat to Format.
//
// A cluster works at one format, the cluster format. It is a replicated key,
// never above the Format of any member, and raised only by an explicit finalise.
// Until then a newer program writes what the older ones understand, so going
// back to the older program works; afterwards an older one is refused.
const (
	Format       = 2
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
const (
	// FormatLeader is the first format in which groups name the node that led.
	FormatLeader = 2
)

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
