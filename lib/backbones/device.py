"""Where a network runs and in which precision."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from lib.parallel.ahead import ahead
from lib.stage.errors import Fault, InputError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
I = TypeVar("I")  # noqa: E741
P = TypeVar("P")
R = TypeVar("R")


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

    def in_order(
        self, prepare: Callable[[I], P], run: Callable[[P], R], items: Iterable[I], workers: int
    ) -> Iterator[R]:
        """`run(prepare(item))` of each item, in order, ahead of its use.

        prepare : what the processor does (decode, resize, cut);  run : what the network does with it
        workers : threads. On a CPU each does both, on one core: several small problems side by side waste less than a
                  single one spread over the cores, and the result does not depend on their number. A GPU takes one
                  item at a time, from a thread of its own, and the workers prepare at most that many items ahead
        """
        if self.torch_device.type == "cpu":
            return ahead(lambda item: run(prepare(item)), items, workers, lambda: torch.set_num_threads(1))
        return ahead(run, ahead(prepare, items, workers))

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling; does nothing unless gradients are float16."""
        return torch.amp.GradScaler(self.torch_device.type, enabled=self.dtype == torch.float16)


def pick_device(device: str, precision: Precision, training: bool = False) -> Device:
    """The device that `compute.device` and a `precision` param ask for.

    `auto` precision is float32 in training on a CPU; elsewhere bfloat16 where the processor computes in it (on
    others it would be emulated, many times slower), else float16 on a GPU and float32 on a CPU.
    float32 on a GPU is all 24 bits of it, not TF32's 11. Deterministic algorithms are switched on; where a GPU has none
    for an operation it warns.
    Raises InputError where the device is not there.
    """
    gpus = gpus_here()
    if device not in ("auto", "cpu", *gpus):
        problem = f"is {device!r}, and torch finds {', '.join(gpus) or 'no GPU'}"
        raise InputError(
            [Fault("no device", "params.yaml: compute.device", problem, ", ".join(["auto", "cpu", *gpus]),
                   "Set compute.device: auto")]
        )
    torch_device = torch.device(device if device != "auto" else "cuda" if "cuda" in gpus else "cpu")
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    torch.backends.cudnn.conv.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.rnn.fp32_precision = "ieee"  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False  # it times algorithms and takes the fastest: another one in the next run
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
        automatic = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return Device(torch_device, automatic if precision == "auto" else getattr(torch, precision))


def gpus_here() -> list[str]:
    """What `compute.device` may name here besides auto and cpu: cuda (the first), cuda:0, cuda:1 ..., mps."""
    cuda = ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    return [*(cuda if torch.cuda.is_available() else []), *(["mps"] if torch.backends.mps.is_available() else [])]


def cpu_has_bfloat16() -> bool:
    """True where the processor multiplies bfloat16 in hardware (AVX-512 BF16, AMX, or Arm's)."""
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, name, bool)() for name in probes)
