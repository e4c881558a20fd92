"""The only training loop. Batch i is a pure function of (seed, stage, i), so a resumed run ends with the same bytes."""

import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from lib.backbones.device import Device
from lib.parallel.ahead import ahead
from lib.stage.errors import Fault, InputError
from lib.storage import checkpoint
from lib.training.loss_log import LossLog, Row
from lib.training.optimisation import Optimisation, Sgd, rate

B = TypeVar("B")


def generator(seed: int, stage: str, iteration: int) -> np.random.Generator:
    """The one source of randomness of a batch: its numbers depend on these three and on nothing else."""
    return np.random.default_rng([seed, zlib.crc32(stage.encode()), iteration])


@dataclass
class Part:
    """What `losses` returns for a part of a batch.

    losses : name -> scalar tensor; the losses of a batch are the sums over its parts
    images : keys of the part, to name in a message
    """

    losses: dict[str, Tensor]
    images: Sequence[str]


def train(
    network: nn.Module,
    head: Iterable[nn.Module],
    batch: Callable[[int], Sequence[B]],
    losses: Callable[[B], Part],
    settings: Optimisation,
    device: Device,
    seed: int,
    stage: str,
    scratch: Path,
    progress: Callable[[Iterable[int], int], Iterator[int]],
) -> list[Row]:
    """Trains `network` in place and returns the loss of every iteration.

    head     : modules whose learning rate is multiplied by `head_multiplier`
    batch    : iteration -> the parts of a batch; a pure function, called in a thread one step ahead
    losses   : part -> Part; on a CPU the parts are computed side by side, one core each
    scratch  : folder of the resumable state
    progress : (iterations to go, iterations done) -> the same iterations, shown
    Raises InputError at the first loss that is not finite, one step late; no state with such weights is ever saved.
    """
    # Inputs are channels-last; a network in the other order would be converted at every layer, in three times the time.
    network.to(device.torch_device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = _optimiser(network, head, settings)
    scaler = device.scaler()
    state = scratch / "state.pt"
    start, rows = _resume(state, network, optimiser, scaler)
    log = LossLog(stage, rows)
    todo = range(start, settings.steps)
    trained = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    # Threads would take numbers from dropout's single generator in no fixed order.
    dropout = any(isinstance(module, nn.Dropout) for module in network.modules())
    sequential = device.torch_device.type != "cpu" or dropout
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = ThreadPoolExecutor(min(settings.parts, cores), initializer=lambda: torch.set_num_threads(1))
    parallel: Callable[..., Iterable[Any]] = map if sequential else pool.map
    for i, current in zip(progress(todo, start), ahead(batch, todo), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = settings.learning_rate * group["multiplier"] * rate(i, settings)
        torch.manual_seed(int(generator(seed, f"{stage} dropout", i).integers(2**31)))
        results = list(parallel(lambda part: _gradients(losses, part, trained, scaler, device), current))
        for parameter, gradients in zip(trained, zip(*(of_part for _, of_part in results), strict=True), strict=True):
            parameter.grad = _sum_like(parameter, gradients)
        if settings.clip_norm is not None:
            scaler.unscale_(optimiser)
            nn.utils.clip_grad_norm_(trained, settings.clip_norm)
        scaler.step(optimiser)
        scaler.update()
        log.add(i, [part.losses for part, _ in results], [name for part, _ in results for name in part.images])
        if (i + 1) % settings.checkpoint_every == 0:
            _save(state, network, optimiser, scaler, i + 1, log.rows())
    rows = log.rows()
    _check_weights(network, stage)
    network.eval()
    return rows


def _gradients(
    losses: Callable[[B], Part], part: B, trained: list[nn.Parameter], scaler: torch.amp.GradScaler, device: Device
) -> tuple[Part, Sequence[Tensor]]:
    with device.autocast():
        computed = losses(part)
    total = torch.stack(list(computed.losses.values())).sum()
    return computed, torch.autograd.grad(scaler.scale(total), trained)


def _sum_like(parameter: Tensor, gradients: Sequence[Tensor]) -> Tensor:
    """The sum in the parameter's own memory order: the fused optimiser treats all tensors as flat arrays."""
    total = torch.empty_like(parameter).copy_(gradients[0])
    for gradient in gradients[1:]:
        total.add_(gradient)
    return total


def _optimiser(network: nn.Module, head: Iterable[nn.Module], settings: Optimisation) -> torch.optim.Optimizer:
    fresh = {id(parameter) for module in head for parameter in module.parameters()}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            bias = name.endswith("bias")
            multiplier = settings.head_multiplier if id(parameter) in fresh else 1.0
            key = multiplier * (settings.bias_multiplier if bias else 1.0), 0.0 if bias else settings.weight_decay
            groups.setdefault(key, []).append(parameter)
    param_groups: list[dict[str, Any]] = [
        {"params": members, "multiplier": multiplier, "weight_decay": decay}
        for (multiplier, decay), members in groups.items()
    ]
    if isinstance(settings.optimiser, Sgd):
        return torch.optim.SGD(param_groups, lr=settings.learning_rate, momentum=settings.optimiser.momentum)
    # Unfused, it passes over each tensor many times: ten times as long for fc6 and fc7.
    return torch.optim.AdamW(param_groups, lr=settings.learning_rate, fused=True)


def _save(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler, done: int,
    log: list[Row],
) -> None:
    _check_weights(network, path.parent.name)
    checkpoint.save(
        path,
        {
            "network": network.state_dict(), "optimiser": optimiser.state_dict(), "scaler": scaler.state_dict(),
            "done": done, "log": log,
        },
    )


def _resume(
    path: Path, network: nn.Module, optimiser: torch.optim.Optimizer, scaler: torch.amp.GradScaler
) -> tuple[int, list[Row]]:
    if not path.exists():
        return 0, []
    state = checkpoint.load(path, "network", "optimiser", "scaler", "done", "log")
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    for parameter, moments in optimiser.state.items():
        moments.update({name: _sum_like(parameter, [m]) for name, m in moments.items() if m.shape == parameter.shape})
    scaler.load_state_dict(state["scaler"])
    return state["done"], state["log"]


def _check_weights(network: nn.Module, stage: str) -> None:
    state = network.state_dict()
    finite = torch.stack([torch.isfinite(value).all() for value in state.values()]).tolist()  # one wait for a GPU
    non_finite = [name for name, is_finite in zip(state, finite, strict=True) if not is_finite]
    if non_finite:
        raise InputError(
            [Fault("diverged", stage, f"weights are not finite: {non_finite[0]} ({len(non_finite)} tensors)", "",
                   "Lower the learning rate")]
        )
