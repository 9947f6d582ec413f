"""What this CPU and its operating system allow. Compiled without `-m` flags: it must run anywhere."""

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(__i386__)
    /* __builtin_cpu_supports reads CPUID and, for AVX and AVX-512, the register state the system saves (XGETBV). */
    static int sparse_supports(int feature) {
        __builtin_cpu_init();
        switch (feature) {
            case 0: return __builtin_cpu_supports("avx2") != 0;
            case 1: return __builtin_cpu_supports("fma") != 0;
            case 2: return __builtin_cpu_supports("avx512f") != 0;
            case 3: return __builtin_cpu_supports("avx512vl") != 0;
            case 4: return __builtin_cpu_supports("avx512dq") != 0;
            case 5: return __builtin_cpu_supports("avx512bw") != 0;
        }
        return 0;
    }
    #else
    static int sparse_supports(int feature) { return 0; }
    #endif
    """
    int sparse_supports(int feature) nogil


def features() -> dict:
    """Feature name -> whether CPU and operating system support it."""
    names = ("avx2", "fma", "avx512f", "avx512vl", "avx512dq", "avx512bw")
    return {name: bool(sparse_supports(i)) for i, name in enumerate(names)}
