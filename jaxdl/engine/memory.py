"""What becomes of memory that a process has freed."""

import ctypes

# Of <malloc.h>.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Has this process keep what it frees, for the next time, rather than return it to the system.

    XLA takes the memory of a program's intermediate results anew in each run. glibc gets blocks above 32 MB from
    the kernel, which clears every page of them again: a sixth of the CNN's step on two CPU cores. Where the C
    library has no ``mallopt`` nothing changes.

    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Returns what was kept, once; nothing where the C library has no ``malloc_trim``.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
