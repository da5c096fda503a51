#ifndef CLOISTER_CPU_H
#define CLOISTER_CPU_H

// cloister_cpu_lacks names the first feature of x86-64-v3 that a processor
// lacks, from its CPUID registers and XCR0, or NULL.
const char *cloister_cpu_lacks(unsigned ecx1, unsigned ebx7, unsigned ecx81, unsigned xcr0);

#endif
