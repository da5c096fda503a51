package consensus

import "testing"

// A replay of the log goes through the removal of a node that is a member again,
// so that what is known of it is forgotten after its hello. What its status proved
// was then noted for no life at all, and the same life was refused at its next
// hello as set back: it ended. And of a node whose life was known, nothing that it
// proved was kept. Found by test/chaos: membership, kill all.
func TestWhatANodeProvesIsOfItsPresentLife(t *testing.T) {
	k := &known{proofs: map[string]proof{}, met: map[string]bool{}}
	life := hello{Node: "n3", Boot: 8, Start: proof{Birth: 7, Boot: 7, Index: 930, Term: 5}}
	k.note("n3", 930, 6) // forgotten
	if verdict, _ := k.judge(life, true); verdict != "" {
		t.Fatalf("a node that was forgotten is refused: %s", verdict)
	}
	k.note("n3", 940, 6)
	if verdict, _ := k.judge(life, true); verdict != "" {
		t.Fatalf("a life that goes on is refused: %s", verdict)
	}
	back := hello{Node: "n3", Boot: 9, Start: proof{Birth: 7, Boot: 8, Index: 935, Term: 6}}
	if verdict, _ := k.judge(back, true); verdict == "" {
		t.Error("a disk that lacks what its node proved is not refused")
	}
}
