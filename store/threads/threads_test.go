package threads

import (
	"runtime"
	"testing"
)

func TestKeepMakesRoomOnceUnlessTheOperatorDid(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer func() {
		runtime.GOMAXPROCS(before)
		added.Store(0)
	}()
	t.Setenv("GOMAXPROCS", "3")
	if Keep(); runtime.GOMAXPROCS(0) != before || Processors() != before {
		t.Error("what the operator set was not left alone")
	}
	t.Setenv("GOMAXPROCS", "")
	for range 2 {
		if Keep(); runtime.GOMAXPROCS(0) != before+Spare {
			t.Errorf("%d threads, want %d", runtime.GOMAXPROCS(0), before+Spare)
		}
		if Processors() != before {
			t.Errorf("%d processors, and there are %d", Processors(), before)
		}
	}
}
