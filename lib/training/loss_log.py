"""The losses of a training, brought to the host one step late: it never waits for the step that it has just started."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lib.stage.errors import Fault, InputError

Row = dict[str, float]  # `iteration`, and a loss by name


class _Step(NamedTuple):
    iteration: int
    names: Sequence[str]
    images: Sequence[str]
    arrived: Callable[[], list[list[float]]]


class LossLog:
    """The loss of every iteration.

    stage : to name in a message;  rows : of the iterations before
    """

    def __init__(self, stage: str, rows: Sequence[Row]) -> None:
        self._stage, self._rows = stage, list(rows)
        self._last: _Step | None = None

    def add(self, iteration: int, parts: Sequence[Mapping[str, Tensor]], images: Sequence[str]) -> None:
        """Reads the losses of the iteration before, and sends these on their way.

        parts  : scalars by name, the same names in each part; the losses of a batch are the sums over its parts
        images : keys of the batch, to name in a message
        Raises InputError where a loss of the iteration before is not finite.
        """
        values = torch.stack([torch.stack(list(part.values())).detach() for part in parts])
        self.rows()
        self._last = _Step(iteration, list(parts[0]), images, _on_its_way(values))

    def rows(self) -> list[Row]:
        """The losses of all iterations. Raises InputError where one is not finite."""
        if self._last:
            step, self._last = self._last, None
            of_names = zip(*step.arrived(), strict=True)  # each loss in all parts
            losses = {name: sum(values) for name, values in zip(step.names, of_names, strict=True)}
            self._check(step, losses)
            self._rows.append({"iteration": step.iteration, **losses})
        return self._rows

    def _check(self, step: _Step, losses: Row) -> None:
        if not all(math.isfinite(value) for value in losses.values()):
            raise InputError(
                [Fault("diverged", f"{self._stage}, iteration {step.iteration}, images {', '.join(step.images[:8])}",
                       f"the loss is not finite: {losses}", "", "Lower the learning rate, or look at these images")]
            )


def _on_its_way(values: Tensor) -> Callable[[], list[list[float]]]:
    """Starts a copy to the host; what it returns waits for that alone, not for later work, and gives the values."""
    host = values.to("cpu", non_blocking=True)
    if not values.is_cuda:
        return host.tolist
    sent = torch.cuda.Event()
    sent.record(torch.cuda.current_stream(values.device))

    def arrived() -> list[list[float]]:
        sent.synchronize()
        return host.tolist()  # type: ignore[no-any-return]

    return arrived
