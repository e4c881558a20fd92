"""How the numeric kernels of selective search are compiled: one decorator for all of them.

`fastmath` stays off: with it, different CPUs gave different boxes. The cache is on, so a process pays for compiling
once per machine. Numba does not notice a change in a kernel of *another* module that a cached kernel calls; so kernels
only call kernels of their own file, and Python strings the files together.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from numba import njit

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compiles a function of arrays and numbers on its first call; releases the interpreter lock while it runs."""
    return njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function)  # type: ignore[no-any-return]
