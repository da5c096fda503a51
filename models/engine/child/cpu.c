// The native code of this program is compiled for x86-64-v3, and so are the
// constructors of its C++ globals, which run before main: on an older processor
// every command would die of an illegal instruction without a word. The
// constructor here runs before those, in plain x86-64, and says why.

#include "cpu.h"

#if defined(__x86_64__)

#include <cpuid.h>
#include <unistd.h>

#define PLAIN __attribute__((target("arch=x86-64"), noinline))

struct feature {
  unsigned set, bit;
  const char *name;
};

PLAIN const char *cloister_cpu_lacks(unsigned ecx1, unsigned ebx7, unsigned ecx81, unsigned xcr0) {
  const unsigned sets[3] = {ecx1, ebx7, ecx81};
  static const struct feature features[] = {
      {1, 5, "AVX2"}, {1, 3, "BMI1"},   {1, 8, "BMI2"},   {0, 28, "AVX"},
      {0, 12, "FMA"}, {0, 29, "F16C"}, {0, 22, "MOVBE"}, {2, 5, "LZCNT"},
  };
  for (unsigned i = 0; i < sizeof features / sizeof *features; i++) {
    if (!(sets[features[i].set] >> features[i].bit & 1)) {
      return features[i].name;
    }
  }
  if ((xcr0 & 6) != 6) { // the kernel saves the AVX registers
    return "AVX support of the kernel";
  }
  return 0;
}

PLAIN static void say(const char *text) {
  size_t n = 0;
  while (text[n]) {
    n++;
  }
  (void)!write(2, text, n);
}

PLAIN __attribute__((constructor(101))) static void check(void) {
  unsigned a, b, c, d, ecx1 = 0, ebx7 = 0, ecx81 = 0, xcr0 = 0;
  if (__get_cpuid(1, &a, &b, &c, &d)) {
    ecx1 = c;
  }
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    ebx7 = b;
  }
  if (__get_cpuid(0x80000001, &a, &b, &c, &d)) {
    ecx81 = c;
  }
  if (ecx1 >> 27 & 1) { // XGETBV exists
    __asm__ volatile("xgetbv" : "=a"(xcr0), "=d"(d) : "c"(0));
  }
  const char *lacks = cloister_cpu_lacks(ecx1, ebx7, ecx81, xcr0);
  if (!lacks) {
    return;
  }
  say("cloister: this processor lacks ");
  say(lacks);
  say(", which its model engine is built for (x86-64-v3: Intel since 2013, AMD since 2015): "
      "run it on a newer machine, or have the hypervisor pass the host's processor through.\n");
  _exit(1);
}

#else

const char *cloister_cpu_lacks(unsigned ecx1, unsigned ebx7, unsigned ecx81, unsigned xcr0) { return 0; }

#endif
