// Package laws holds the rules of the house as tests: what may stand at the top
// level, which way imports run, who owns which library, and that nothing reaches
// an effect round the guard. It may look at every package and import none.
package laws
