package sim_test

import (
	"testing"

	"github.com/cloister-os/cloister/store/storetest/sim"
)

// TestMachines: state machines on disks that fail follow the model, whatever is
// cut, killed, restored or full. CLOISTER_SEEDS sets how many seeds.
func TestMachines(t *testing.T) { sim.Seeds(t, 200, sim.Machines) }

// TestCluster: whole nodes keep what they promise, whatever happens to them.
// CLOISTER_SEEDS sets how many seeds.
func TestCluster(t *testing.T) { sim.Seeds(t, 12, sim.Cluster) }
