"""A paper's training as the stage that runs it sees it: its input, `Given`, and the `Task` that it makes of that.

A training module of lib/detectors has `reads(block, method)`, the settings that it reads besides those that all read,
and `task(given)`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from lib.backbones.device import Device
from lib.images.image_set import ImageSet
from lib.storage.by_image import ByImage
from lib.training.loop import Part
from lib.training.optimisation import Optimisation


@dataclass(frozen=True)
class Given:
    """The input of a training.

    stage         : address of the stage; its random numbers are a function of (seed, stage, iteration)
    block, method : keys of params.yaml: the training's settings, and what all trainings of the method share
    params        : dotted key -> checked value;  seed : of all random numbers
    images        : of the training splits, objects among them
    path, roles   : role -> the file that the command gives it; the roles that it gives
    device        : where to run;  memory : bytes that decoded images may take, and feature maps as many again
    """

    stage: str
    block: str
    method: str
    params: Mapping[str, Any]
    seed: int
    images: ImageSet
    path: Callable[[str], Path]
    roles: Collection[str]
    device: Device
    memory: int

    @property
    def settings(self) -> Any:
        """The checked block of the training."""
        return self.params[self.block]

    def proposals(self) -> ByImage:
        """The table in the role `proposals`, of each image so many as the method uses; see `ImageSet.proposals`."""
        return self.images.proposals(self.path("proposals"), self.params[f"{self.method}.proposals_max"])


@dataclass(frozen=True)
class Phase:
    """A run of the loop: see `loop.train`."""

    settings: Optimisation
    fresh: Sequence[nn.Module]
    batch: Callable[[int], Sequence[Any]]
    losses: Callable[[Any], Part]


@dataclass(frozen=True)
class Task:
    """What a training is.

    network    : what is trained, in place
    phases     : the runs that follow each other, each made when the one before has ended;  iterations : of all of them
    sections   : the contents of the model file once all are done
    work       : what is announced before;  memory : bytes that this will need
    cautions   : what to be aware of, each with a remedy
    plots      : rows for `results/plots/KIND/STAGE.json` by kind, besides the loss
    """

    network: nn.Module
    phases: Callable[[], Iterable[Phase]]
    iterations: int
    sections: Callable[[], Mapping[str, Any]]
    work: str
    memory: int = 0
    cautions: Sequence[str] = ()
    plots: Mapping[str, Any] = field(default_factory=dict)


def once(settings: Optimisation, fresh: Sequence[nn.Module], batch: Callable[[int], Sequence[Any]],
         losses: Callable[[Any], Part]) -> Callable[[], Iterator[Phase]]:
    """The phases of a training that has a single one."""
    return lambda: iter([Phase(settings, fresh, batch, losses)])
