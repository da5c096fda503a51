package child

// #include "cpu.h"
import "C"

// lacks names the first feature of x86-64-v3 that a processor with these CPUID
// registers and XCR0 lacks, or "". The program itself asks before main; see cpu.c.
func lacks(ecx1, ebx7, ecx81, xcr0 uint32) string {
	return C.GoString(C.cloister_cpu_lacks(C.uint(ecx1), C.uint(ebx7), C.uint(ecx81), C.uint(xcr0)))
}
