// Package transport lists the connectors that this build has.
//
// It may import graph/connect and the transports below it.
package transport

import (
	"github.com/cloister-os/cloister/graph/connect"
	"github.com/cloister-os/cloister/graph/connect/transport/files"
	"github.com/cloister-os/cloister/graph/connect/transport/git"
)

// All returns one connector of each kind.
func All() []connect.Connector {
	return []connect.Connector{git.New(), files.New()}
}
