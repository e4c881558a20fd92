"""What the stages that train SVMs and fit box regressors see of a method: its input, `Given`, and the `Task` that the
method makes of it.

A module `mining` or `regression` of lib/detectors has `reads(method)`, the settings that it reads, and `task(given)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from lib.images.image_set import ImageSet
from lib.linear.mining import Miner


@dataclass(frozen=True)
class Given:
    """stage, method : address of the stage; key of params.yaml
    params : dotted key -> checked value;  seed : of all random numbers
    images : of the training splits, objects among them
    path   : role -> the file that the command gives it;  memory : bytes that mining may take
    """

    stage: str
    method: str
    params: Mapping[str, Any]
    seed: int
    images: ImageSet
    path: Callable[[str], Path]
    memory: int

    @property
    def settings(self) -> Any:
        """The checked block of the SVMs."""
        return self.params[f"{self.method}.svm"]


class Learning(Protocol):
    """What learns, image by image."""

    def add(self, step: int) -> None:
        """Takes the next image. step : how many were taken before, over all rounds or passes"""

    def sections(self) -> Mapping[str, Any]:
        """The contents of the model file once all are taken."""


class Mining(Learning, Protocol):
    """Learning of SVMs. Among its `sections` are `notes`, what a user should know, a sentence each."""

    @property
    def miners(self) -> Sequence[Miner]:
        """Their states, and the steps that are done, are all that a resumed run needs."""

    def log_rows(self) -> list[dict[str, Any]]:
        """Rows for a plot, one for each training."""


Kind = TypeVar("Kind", bound=Learning, covariant=True)


@dataclass(frozen=True)
class Task(Generic[Kind]):
    """What is to be done. steps : images, over all rounds or passes

    begin : makes it ready; called once it is announced;  work, memory : what is announced, and bytes that it needs
    """

    steps: int
    begin: Callable[[], Kind]
    work: str
    memory: int
