"""How a network is trained: the settings that all trainings share, and the learning rate of each iteration."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from lib.stage.params import Settings


class Sgd(Settings):
    """Stochastic gradient descent, the papers'.  momentum : share of the last step that the next one keeps"""

    name: Literal["sgd"]
    momentum: float = Field(ge=0, lt=1)


class Adamw(Settings):
    """AdamW, with its usual betas."""

    name: Literal["adamw"]


class Step(Settings):
    """The papers' schedule: the learning rate times `gamma` after every `every` iterations."""

    name: Literal["step"]
    every: int = Field(ge=1)
    gamma: float = Field(gt=0, le=1)


class Steps(Settings):
    """A schedule whose steps are not evenly spaced (SSD, RetinaNet): the learning rate times `gamma` at each of them.

    at : iterations, from 1, ascending, below those of the training (see `Optimisation`)
    warmup : share of the iterations in which the learning rate rises from 0 before
    """

    name: Literal["steps"]
    at: list[Annotated[int, Field(ge=1)]]
    gamma: float = Field(gt=0, le=1)
    warmup: float = Field(ge=0, lt=1)

    @field_validator("at")
    @classmethod
    def _ascending(cls, at: list[int]) -> list[int]:
        if at != sorted(set(at)):
            raise ValueError("ascending iterations, each once")
        return at


class Cosine(Settings):
    """Up from 0 in the first `warmup` of the iterations (a share), then down to 0 along a cosine."""

    name: Literal["cosine"]
    warmup: float = Field(ge=0, lt=1)


class Passes(Settings):
    """Iterations that follow from the training set: so many passes over it, at least `least` and at most `most`.

    What a pass is, each training says where it calls `Optimisation.resolved`.
    """

    passes: float = Field(gt=0)
    least: int = Field(ge=1)
    most: int = Field(ge=1)

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.least > self.most:
            raise ValueError("least up to most")
        return self


def _shape(iterations: Any) -> str | None:
    if isinstance(iterations, int) and not isinstance(iterations, bool):
        return "int"
    return "by-passes" if isinstance(iterations, (Passes, Mapping)) else None


Iterations = Annotated[
    Annotated[int, Field(ge=0), Tag("int")] | Annotated[Passes, Tag("by-passes")],
    Discriminator(_shape, "iterations", "a valid integer, or {passes, least, most}"),
]


class Optimisation(Settings):
    """How a network is trained.

    iterations        : optimiser steps, or Passes; see `resolved`
    optimiser         : Sgd or Adamw, told apart by their name
    learning_rate     : at its peak
    clip_norm         : largest norm of a batch's gradient over all parameters; a longer one is scaled down; null: none
    weight_decay      : never applied to biases, as in the authors' prototxts
    bias_multiplier   : learning rate of biases relative to weights (Caffe's models: 2)
    head_multiplier   : learning rate of the freshly initialised layers relative to the rest (R-CNN's fc8: 10)
    schedule          : Step, Steps or Cosine, told apart by their name
    parts             : pieces in which the gradient of a batch is computed, side by side on a CPU
    checkpoint_every  : iterations between the states from which a killed run continues
    """

    optimiser: Annotated[Sgd | Adamw, Field(discriminator="name")]
    learning_rate: float = Field(gt=0)
    clip_norm: float | None = Field(gt=0)
    weight_decay: float = Field(ge=0)
    bias_multiplier: float = Field(gt=0)
    head_multiplier: float = Field(gt=0)
    schedule: Annotated[Step | Steps | Cosine, Field(discriminator="name")]
    iterations: Iterations
    parts: int = Field(ge=1)
    checkpoint_every: int = Field(ge=1)

    @field_validator("iterations")
    @classmethod
    def _counted(cls, iterations: int | Passes, earlier: ValidationInfo) -> int | Passes:
        if isinstance(iterations, Passes) and isinstance(earlier.data.get("schedule"), Step | Steps):
            raise ValueError("a number beside a schedule {name: step} or {name: steps}, which count iterations")
        last = max(getattr(earlier.data.get("schedule"), "at", []), default=0)
        if isinstance(iterations, int) and 0 < iterations <= last:
            raise ValueError(f"more than {last}, the last of schedule.at, or 0; or earlier steps there")
        return iterations

    def resolved(self, total: int, per_batch: int) -> Self:
        """The same settings with a number of iterations: as it is, or that of the passes, rounded up, in its bounds.

        total, per_batch : of whatever the training passes over: all there are, and those in a batch (at least 1)
        """
        if isinstance(self.iterations, int):
            return self
        of_passes = math.ceil(round(self.iterations.passes * total / per_batch, 6))  # 1.1 * 50 is a trace above 55
        return self.model_copy(update={"iterations": min(max(of_passes, self.iterations.least), self.iterations.most)})

    @property
    def steps(self) -> int:
        """`iterations` of resolved settings."""
        assert isinstance(self.iterations, int), "resolved() comes first"
        return self.iterations


def rate(iteration: int, settings: Optimisation) -> float:
    """Learning rate of an iteration (0-based) as a share of the peak."""
    schedule = settings.schedule
    if isinstance(schedule, Step):
        return schedule.gamma ** (iteration // schedule.every)
    rise = schedule.warmup * settings.steps
    if iteration < rise:
        return (iteration + 1) / (rise + 1)
    if isinstance(schedule, Steps):
        return schedule.gamma ** sum(iteration >= step for step in schedule.at)
    return 0.5 * (1 + math.cos(math.pi * (iteration - rise) / max(settings.steps - rise, 1)))
