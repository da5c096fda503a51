//go:build cloister_header

package child

// The C header miniaudio.h, which Ollama's module does not carry, is taken from
// this module at build time; importing it here, under a tag nobody sets, keeps
// it among the requirements.
import _ "github.com/gen2brain/malgo"
