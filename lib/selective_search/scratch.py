"""Arrays that are used again: for images of one size most of the memory of a search is asked for once.

Fresh memory costs a page fault for every 4 kB, a tenth of a search and more.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch:
    """Named buffers. Taking a name again hands out the same memory, so what was taken before is overwritten."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of that shape and type with any content."""
        needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < needed:
            buffer = self._buffers[name] = np.empty(needed, np.uint8)
        return buffer[:needed].view(dtype).reshape(shape)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(buffer.size for buffer in self._buffers.values())
