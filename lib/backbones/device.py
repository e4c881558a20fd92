"""Where a network runs and in which precision."""

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lib.stage.errors import Fault, InputError

Precision = Literal["auto", "float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class Device:
    """A torch device and the precision of its matrix products.

    torch_device : where;  dtype : float32, bfloat16 or float16 (float16 on a GPU only, with loss scaling)
    """

    torch_device: torch.device
    dtype: torch.dtype

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which forward passes run."""
        if self.dtype == torch.float32:
            return nullcontext()
        return torch.autocast(self.torch_device.type, dtype=self.dtype)

    def put(self, array: NDArray[Any]) -> torch.Tensor:
        """An array of at least one axis as a tensor on the device, of the same dtype and shape.

        On a CPU it shares the array's memory where that is contiguous. A GPU gets a copy out of pinned memory, which
        the host does not wait for; the array may be changed at once.
        """
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.torch_device.type != "cuda":
            return tensor.to(self.torch_device)
        return tensor.pin_memory().to(self.torch_device, non_blocking=True)

    def fetch(self, tensors: Mapping[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
        """Tensors of the device as arrays of the host, by name. A GPU sends all of them, and is waited for once."""
        copies = {name: tensor.to("cpu", non_blocking=True) for name, tensor in tensors.items()}
        self.synchronise()
        return {name: copy.numpy() for name, copy in copies.items()}

    def synchronise(self) -> None:
        """Waits until a GPU has done all that it was given; a CPU is never behind."""
        if self.torch_device.type == "cuda":
            torch.cuda.synchronize(self.torch_device)
        elif self.torch_device.type == "mps":
            torch.mps.synchronize()

    def side_by_side(self, workers: int) -> tuple[int, Callable[[], None]]:
        """How many threads should use the network at once, and what each of them calls first.

        On a CPU each computes on one core: several small problems side by side waste less than a single one
        spread over the cores, and the result does not depend on their number. A GPU takes one at a time.
        """
        return (workers, lambda: torch.set_num_threads(1)) if self.torch_device.type == "cpu" else (1, lambda: None)

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling; does nothing unless gradients are float16."""
        return torch.amp.GradScaler(self.torch_device.type, enabled=self.dtype == torch.float16)


def pick_device(device: str, precision: Precision, training: bool = False) -> Device:
    """The device that `compute.device` and a `precision` param ask for.

    `auto` precision is float32 in training on a CPU; elsewhere bfloat16 where the processor computes in it (on
    others it would be emulated, many times slower), else float16 on a GPU and float32 on a CPU.
    Deterministic algorithms are switched on; where a GPU has none for an operation it warns.
    Raises InputError where the device is not there.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(
            [Fault("no device", "params.yaml: compute.device", f"is {device!r}, and torch finds no GPU", "auto, cpu",
                   "Set compute.device: auto")]
        )
    automatic_device = "cuda" if torch.cuda.is_available() else "cpu"
    torch_device = torch.device(automatic_device if device == "auto" else device)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Deterministic mode would also fill each new tensor before it is computed, a tenth of a training step's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if torch_device.type == "cpu":
        native = cpu_has_bfloat16()
        automatic = torch.bfloat16 if native and not training else torch.float32
        if precision == "float16":
            raise InputError(
                [Fault("bad setting", "precision", "is 'float16' on a CPU", "auto, float32, bfloat16", "Change it")]
            )
    else:
        automatic = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return Device(torch_device, automatic if precision == "auto" else getattr(torch, precision))


def cpu_has_bfloat16() -> bool:
    """True where the processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX, or Arm's)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)
