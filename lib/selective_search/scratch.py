"""Arrays that are reused: for images of one size most of the memory of a search is allocated once.

Fresh memory costs a page fault for every 4 kB, a tenth of a search and more.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch:
    """Named buffers. Taking a name again gives the same memory, so the array taken before is overwritten."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}

    def take(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of that shape and type; its content is undefined."""
        needed = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < needed:
            buffer = self._buffers[name] = np.empty(needed, np.uint8)
        return buffer[:needed].view(dtype).reshape(shape)

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(buffer.size for buffer in self._buffers.values())
