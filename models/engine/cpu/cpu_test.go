package cpu

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestCheckNamesWhatTheProcessorLacks(t *testing.T) {
	if runtime.GOARCH != "amd64" {
		t.Skip("the check is about amd64")
	}
	const modern = "avx avx2 bmi1 bmi2 f16c fma abm movbe"
	cases := []struct{ name, info, lacks string }{
		{"modern", "flags\t\t: fpu " + modern + " sse\n", ""},
		{"without AVX2", "flags\t\t: fpu " + strings.Replace(modern, " avx2", "", 1) + "\n", "AVX2"},
		{"ancient", "processor : 0\nflags : fpu sse2\n", "AVX, AVX2, BMI1"},
		{"no flags", "model name : something\n", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cpuinfo")
			if err := os.WriteFile(path, []byte(c.info), 0o600); err != nil {
				t.Fatal(err)
			}
			err := Check(path)
			if (err != nil) != (c.lacks != "") || err != nil && !strings.Contains(err.Error(), "lacks "+c.lacks) {
				t.Fatalf("Check = %v, want it to name %q", err, c.lacks)
			}
		})
	}
	if err := Check(filepath.Join(t.TempDir(), "absent")); err != nil {
		t.Fatalf("a processor that is not described: %v", err)
	}
}
