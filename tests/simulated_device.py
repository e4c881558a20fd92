"""A simulated GPU: tensors that report the device cuda and hold their data in main memory.

    with simulated_device.installed() as gpu:
        ...                                    # compute.device: auto picks the simulated GPU
        with gpu.counting() as waits:          # waits: the reason of each time that the host waited for the device
            ...

Simulated, at the level at which PyTorch dispatches its operators, backward passes included:
- an operator refuses tensors on both devices; numbers, host tensors without axes and host indices may be mixed in;
- a device tensor has no `.numpy()`; `.to`, `.cpu`, `.item`, factories with a device and `Module.to` move between the
  two, the last as it does on a GPU: each parameter stays the same object;
- what makes the host wait: a number or a bool of a device tensor, a blocking copy to the host, an operator whose result
  has a size that depends on the data (`nonzero`, a boolean mask as index, `nms`), a copy from host memory that is not
  pinned, an index on the host, `synchronize`;
- the result of a copy to the host that is not waited for is garbage until the host has waited for later work or for an
  event that was recorded after it. An event whose work an earlier wait has covered costs no wait;
- `torch.autocast("cuda")`, which is the CPU's; `torch.cuda`: whether it is there, free memory, events, the stream.

Not simulated: time, memory and its limits, other streams, gradients that go from one device to the other,
half-precision arithmetic as a GPU does it, the order of a GPU's sums, optimisers over lists of tensors (SGD's
`foreach`), operators that a GPU lacks or that are not deterministic.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map_only

CUDA = torch.device("cuda", 0)
FREE_BYTES = 2**30
FACTORIES = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "zeros")
FROM_HOST = ("as_tensor", "tensor")
SIZED_BY_DATA = {
    "aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::bincount", "torchvision::nms",
}
READ_BY_HOST = {"aten::_local_scalar_dense", "aten::equal"}
INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index_put"}
COPYING = {"aten::copy_", "aten::_foreach_copy_"}


class DeviceTensor(torch.Tensor):
    """A tensor on the simulated GPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _gpu().run(func, args, kwargs or {})

    def __repr__(self, **options):
        return f"DeviceTensor({tuple(self.shape)}, {self.dtype})"

    def numpy(self, *, force=False):
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
                        "memory first.")

    def __array__(self, dtype=None, copy=None):
        return self.numpy()

    def cpu(self, memory_format=torch.preserve_format):
        return self.to("cpu", memory_format=memory_format)

    def cuda(self, device=None, non_blocking=False):
        return self

    def tolist(self):
        return self.cpu().tolist()

    def new_tensor(self, data, **options):
        return torch.tensor(data, **{"dtype": self.dtype, "device": CUDA, **options})


def device_tensor(tensor: torch.Tensor) -> DeviceTensor:
    """The memory of a host tensor as a device tensor; for tests of the simulation, and what it is made of."""
    return tensor if isinstance(tensor, DeviceTensor) else torch.Tensor._make_subclass(DeviceTensor, tensor)


class Event:
    """`torch.cuda.Event`."""

    def __init__(self, **options: Any) -> None:
        self._time = 0

    def record(self, stream: Any = None) -> None:
        self._time = _gpu().now()

    def query(self) -> bool:
        return _gpu().reached(self._time)

    def synchronize(self) -> None:
        _gpu().wait("event", self._time)


class Stream:
    """The one stream."""

    def synchronize(self) -> None:
        _gpu().wait("synchronize")

    def is_capturing(self) -> bool:
        return False


class Simulation:
    """The device: what it has been asked to do, and what the host has waited for.

    waits : where and why the host waited, in order
    """

    def __init__(self) -> None:
        self.waits: list[str] = []
        self._asked = self._done = 0  # moments in the order of the work: of the last work asked for, and known as done
        self._pinned: dict[int, torch.Tensor] = {}
        self._arriving: list[tuple[int, torch.Tensor, torch.Tensor]] = []

    @contextmanager
    def counting(self) -> Iterator[list[str]]:
        """The waits inside the block, in a list that is filled when it ends."""
        before, inside = len(self.waits), []
        yield inside
        inside += self.waits[before:]

    def now(self) -> int:
        """The moment after all work that was asked for so far."""
        self._asked += 1
        return self._asked

    def reached(self, moment: int) -> bool:
        """True where the host knows that the work before a moment is done."""
        return moment <= self._done

    def wait(self, reason: str, moment: int | None = None) -> None:
        """The host waits for all work, or for that before a moment, and copies that were on their way are there."""
        moment = self.now() if moment is None else moment
        if self.reached(moment):
            return
        self._count(reason)
        self._done = moment
        for when, host, data in self._arriving:
            if when <= moment:
                host.copy_(data)
        self._arriving = [copy for copy in self._arriving if copy[0] > moment]

    def _count(self, reason: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if "/lib/" in frame.filename and "torch" not in
                  frame.filename and "/lib/python" not in frame.filename]
        place = f"{frames[-1].filename.split('/lib/')[-1]}:{frames[-1].lineno}" if frames else "a test"
        self.waits.append(f"{place}: {reason}")

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator, of which at least one argument is on the device."""
        name = func._schema.name
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        hosts = [tensor for tensor in tensors if not isinstance(tensor, DeviceTensor)]
        if name in INDEXING:
            indices = [index for index in args[1] if index is not None]
            if any(index.dtype in (torch.bool, torch.uint8) for index in indices):
                self.wait("boolean mask as an index")
            elif not all(isinstance(index, DeviceTensor) for index in indices):
                self._count("index on the host")
            if not isinstance(args[0], DeviceTensor):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
            hosts = [tensor for tensor in hosts if all(tensor is not index for index in indices)]
        if name in COPYING:
            return self._copy(func, args, kwargs)
        if any(tensor.dim() for tensor in hosts):
            raise RuntimeError(f"{name}: Expected all tensors to be on the same device, but found at least two "
                               "devices, cuda:0 and cpu!")
        if name in SIZED_BY_DATA or name in READ_BY_HOST:
            self.wait(name)
        with torch._C._DisableTorchDispatch():
            made = func(*args, **kwargs)
        return tree_map_only(torch.Tensor, device_tensor, made)

    def _copy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        pairs = zip(args[0], args[1], strict=True) if isinstance(args[0], list | tuple) else [args[:2]]
        non_blocking = bool(kwargs.get("non_blocking", args[2] if len(args) > 2 else False))
        for target, source in pairs:
            if isinstance(target, DeviceTensor) and not isinstance(source, DeviceTensor):
                self._from_host(source, non_blocking)
            elif isinstance(source, DeviceTensor) and not isinstance(target, DeviceTensor):
                assert not non_blocking, "copy_ to the host without waiting is not simulated: use to"
                self.wait("copy to the host")
        with torch._C._DisableTorchDispatch():
            return func(*args, **kwargs)

    def _from_host(self, source: torch.Tensor, non_blocking: bool) -> None:
        if not (non_blocking and self.is_pinned(source)):
            self._count("copy from pageable memory")

    def is_pinned(self, tensor: torch.Tensor) -> bool:
        """`Tensor.is_pinned`."""
        return not isinstance(tensor, DeviceTensor) and tensor.untyped_storage().data_ptr() in self._pinned

    def pin(self, tensor: torch.Tensor) -> torch.Tensor:
        """`Tensor.pin_memory`. Stays alive, so that no other tensor gets its address."""
        if isinstance(tensor, DeviceTensor):
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        pinned = tensor.clone()
        self._pinned[pinned.untyped_storage().data_ptr()] = pinned
        return pinned

    def to(
        self, original: Callable[..., torch.Tensor], tensor: torch.Tensor, *args: Any, **kwargs: Any
    ) -> torch.Tensor:
        """`Tensor.to`, where a device tensor or the simulated device has a part in it."""
        copy = kwargs.pop("copy", False)
        if args and isinstance(args[0], torch.Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        options = {"dtype": dtype or tensor.dtype, "memory_format": memory_format or torch.preserve_format}
        here = isinstance(tensor, DeviceTensor)
        if device is None or (device.type == "cuda") == here:
            return original(tensor, **options, copy=copy)
        assert not (torch.is_grad_enabled() and tensor.requires_grad), "no gradient goes from device to device here"
        if not here:
            self._from_host(tensor, non_blocking)
            return device_tensor(original(tensor.detach(), **options, copy=True))
        with torch._C._DisableTorchDispatch():
            data = original(tensor.detach(), **options, copy=True)
        if not non_blocking:
            self.wait("copy to the host")
            return data
        garbage = torch.full_like(data, 77)
        self._arriving.append((self.now(), garbage, data))
        return garbage


_installed: list[Simulation] = []


def _gpu() -> Simulation:
    return _installed[-1]


def _on_device(original: Callable[..., torch.Tensor], from_host: bool) -> Callable[..., torch.Tensor]:
    def factory(*args: Any, **kwargs: Any) -> torch.Tensor:
        device = kwargs.get("device")
        if device is None or torch.device(device).type != "cuda":
            return original(*args, **kwargs)
        if from_host:
            _gpu()._count("copy from pageable memory")
        requires_grad = kwargs.pop("requires_grad", False)
        return device_tensor(original(*args, **{**kwargs, "device": "cpu"})).requires_grad_(requires_grad)

    return factory


def _set_data(tensor: torch.Tensor, value: torch.Tensor, original: Any = torch.Tensor.data) -> None:
    if isinstance(value, DeviceTensor) and not isinstance(tensor, DeviceTensor):
        torch.utils.swap_tensors(tensor, torch.nn.Parameter(value, requires_grad=tensor.requires_grad))
    else:
        original.__set__(tensor, value)


@contextmanager
def installed() -> Iterator[Simulation]:
    """The simulated GPU is the one that torch finds, in all threads, until the block ends."""
    gpu, patch = Simulation(), pytest.MonkeyPatch()
    original_to, autocast = torch.Tensor.to, torch.autocast
    on_cpu = {"cuda": "cpu"}
    cuda: Mapping[str, Any] = {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "is_bf16_supported": lambda **_: True, "mem_get_info": lambda *_: (FREE_BYTES, FREE_BYTES),
        "get_device_name": lambda *_: "simulated GPU", "synchronize": lambda *_: _gpu().wait("synchronize"),
        "current_stream": lambda *_: Stream(), "Event": Event, "manual_seed_all": lambda seed: None,
    }
    _installed.append(gpu)
    for name, value in cuda.items():
        patch.setattr(torch.cuda, name, value)
    for name in (*FACTORIES, *FROM_HOST):
        patch.setattr(torch, name, _on_device(getattr(torch, name), name in FROM_HOST))
    patch.setattr(torch.accelerator, "current_stream", lambda *_: Stream())
    patch.setattr(torch.Tensor, "to", lambda tensor, *args, **kwargs: gpu.to(original_to, tensor, *args, **kwargs))
    patch.setattr(torch.Tensor, "cuda", lambda tensor, *_, **options: tensor.to(CUDA, **options))
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: gpu.pin(tensor))
    patch.setattr(torch.Tensor, "is_pinned", lambda tensor, *_: gpu.is_pinned(tensor))
    patch.setattr(torch, "autocast", lambda kind, *args, **kwargs: autocast(on_cpu.get(kind, kind), *args, **kwargs))
    patch.setattr(torch.Tensor, "data", property(torch.Tensor.data.__get__, _set_data), raising=False)
    patch.setattr(torch, "_has_compatible_shallow_copy_type", lambda *_: True)  # `Module.to` sets `data`, as on a GPU
    try:
        yield gpu
    finally:
        patch.undo()
        _installed.remove(gpu)
