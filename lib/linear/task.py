"""What the stage that trains SVMs sees of a method: its input, `Given`, and the `Task` that the method makes of it.

A module `mining` of lib/detectors has `reads(method)`, the settings that it reads, and `task(given)`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

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


class Mining(Protocol):
    """The mining itself."""

    @property
    def miners(self) -> Sequence[Miner]:
        """Their states, and the steps that are done, are all that a resumed run needs."""

    def add(self, step: int) -> None:
        """Mines the next image. step : how many were mined before, over all rounds"""

    def sections(self) -> Mapping[str, Any]:
        """The contents of the model file once all is mined."""

    def log_rows(self) -> list[dict[str, Any]]:
        """Rows for a plot, one for each training."""


@dataclass(frozen=True)
class Task:
    """What mining is. steps : images, over all rounds

    begin : makes it ready; called once it is announced;  work, memory : what is announced, and bytes that it needs
    """

    steps: int
    begin: Callable[[], Mining]
    work: str
    memory: int
