"""Work that memory cannot hold is refused before it starts."""

import math

from lib.stage.errors import Fault, InputError


def require_memory(need: int, limit: float, where: str, lower: str) -> None:
    """Raises InputError where `need` bytes are more than `limit` bytes. lower : the setting that the need grows with"""
    if need > limit:
        problem = f"needs {need / 2**30:.2f} GiB of memory, compute.memory_gib allows {limit / 2**30:.2f}"
        remedy = f"Set compute.memory_gib to {math.ceil(need / 2**29) / 2} or more, or lower {lower}"
        raise InputError([Fault("too little memory", where, problem, "", remedy)])
