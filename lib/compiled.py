"""How the numeric kernels of selective search are compiled: one decorator for all of them.

`fastmath` stays off: with it, different CPUs gave different boxes. The cache is on, so compilation is paid
once per machine. Numba does not notice a change in a kernel of *another* module that a cached kernel calls; so kernels
only call kernels of their own file (and `prefetch`), and plain Python connects the files.
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
    """Prefetches the cache line of ``array[index]``; array is one-dimensional, index unsigned."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        address = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(8).as_pointer())
        int32 = ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [address.type, int32, int32, int32])
        call = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(call, [address, int32(0), int32(3), int32(1)])  # for reading, into all cache levels, data
        return context.get_dummy_value()

    return types.none(array, index), generate
