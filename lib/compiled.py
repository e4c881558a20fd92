"""How the numeric kernels of selective search are compiled: one decorator for all of them.

`fastmath` stays off: with it, different CPUs gave different boxes. The cache is on, so a process pays for compiling
once per machine. Numba does not notice a change in a kernel of *another* module that a cached kernel calls; so kernels
only call kernels of their own file (and `prefetch`), and Python strings the files together.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def kernel(function: Kernel) -> Kernel:
    """Compiles a function of arrays and numbers on its first call; releases the interpreter lock while it runs."""
    return njit(cache=True, nogil=True, fastmath=False, error_model="numpy")(function)  # type: ignore[return-value]


@intrinsic
def prefetch(_context: Any, array: Any, index: Any) -> Any:
    """Asks for the cache line of ``array[index]`` ahead of its use; array is one-dimensional, index unsigned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        form = ir.FunctionType(ir.VoidType(), [address.type, number, number, number])
        call = cgutils.get_or_insert_function(builder.module, form, "llvm.prefetch.p0")
        builder.call(call, [address, number(0), number(3), number(1)])  # for reading, to all levels, data
        return context.get_dummy_value()

    return types.none(array, index), generate
