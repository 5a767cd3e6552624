"""Keep freed memory in the process, so that CPU training does not pay for page faults at every step.

glibc returns large blocks to the kernel as soon as they are freed, and activations are large: the kernel
then clears the same pages at every step. On two AVX-512 cores this took a fifth of a step.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of <malloc.h>
LARGEST_BLOCK_KEPT = 1 << 30
"""Larger blocks (caches) still return to the kernel when they are freed, in bytes."""


def keep_freed_memory() -> bool:
    """Ask glibc to reuse freed blocks. Returns False, and changes nothing, with another C library."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    kept = mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK_KEPT), mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
    return kept == (1, 1)


def return_freed_memory() -> None:
    """Return freed memory to the kernel once, between phases whose tensors differ in size and would leave holes."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)
