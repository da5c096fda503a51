package config

// nearest returns the word of the list with the least edit distance.
func nearest(word string, list []string) string {
	best, least := "", -1
	for _, w := range list {
		if d := distance(word, w); least < 0 || d < least {
			best, least = w, d
		}
	}
	return best
}

// distance is how many letters must be put in, left out or changed to turn one
// word into the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
