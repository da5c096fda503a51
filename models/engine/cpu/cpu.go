// Package cpu says whether this processor can run the inference engine, which
// is compiled for x86-64-v3. It imports nothing of Cloister.
package cpu

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// Info is where Linux describes the processor.
const Info = "/proc/cpuinfo"

// required are the features of x86-64-v3 above v2 under the names Linux gives
// them ("abm" is LZCNT), as in the x86-64 psABI's table of micro-architecture
// levels.
var required = []string{"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"}

// Check returns an error that names what the processor lacks, in one sentence
// for the operator, or nil. path is Info, or a file like it. A processor whose
// description cannot be read, or of another architecture, passes: then there is
// nothing to say.
func Check(path string) error {
	if runtime.GOARCH != "amd64" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, flags, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) == "flags" {
			return missing(strings.Fields(flags))
		}
	}
	return nil
}

func missing(flags []string) error {
	var lacks []string
	for _, feature := range required {
		if !slices.Contains(flags, feature) {
			lacks = append(lacks, strings.ToUpper(feature))
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("this processor lacks %s, which the model engine needs (any Intel processor since 2013 or AMD since 2015 has them): move the node to a newer machine or let the hypervisor pass them through; questions are answered without a model meanwhile",
		strings.Join(lacks, ", "))
}
