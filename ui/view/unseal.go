package view

import "fmt"

// UnsealForm says who must bring a share.
type UnsealForm struct {
	Need    int // shares that open the seal
	Missing int // of them, how many still have to come
	Holders []ShareHolder
	Notice  *Notice
}

// ShareHolder is somebody who holds a share.
type ShareHolder struct {
	Name  string
	Given bool
}

// Title says how many shares are missing.
func (f UnsealForm) Title() string {
	switch f.Missing {
	case 0:
		return "The node is opening"
	case 1:
		return "One more share is missing"
	}
	return fmt.Sprintf("%d of %d shares are missing", f.Missing, f.Need)
}
