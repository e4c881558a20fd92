"""The settings of selective search, and the three modes of the authors' code.

Fast and quality are the settings of the IJCV code that R-CNN's authors ran; single is the one strategy of the paper's
table 5. OpenCV's "fast" differs: k 150, 300 and 450, and no minimum box size.
"""

import hashlib
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from lib import compiled
from lib.images import decode
from lib.selective_search.grouping import MEASURES
from lib.stage import params

Mode = tuple[tuple[str, ...], tuple[float, ...], tuple[str, ...]]

# Colour spaces, k, and sums of similarities: C colour, T texture, S size, F fill.
MODES: dict[str, Mode] = {
    "single": (("hsv",), (100.0,), ("CTSF",)),
    "fast": (("hsv", "lab"), (50.0, 100.0), ("CTSF", "TSF")),
    "quality": (("hsv", "lab", "rgi", "hue", "intensity"), (50.0, 100.0, 150.0, 300.0), ("CTSF", "TSF", "F", "S")),
}


class Settings(params.Settings):
    """Every number of selective search.

    mode            : "single", "fast" or "quality"; it sets those of the next three that are left empty
    colour_spaces   : names out of `colour.SPACES`
    k               : grey levels, the scale of the first segmentation; also its smallest region, in pixels
    strategies      : sums of similarities, letters out of "CTSF"
    max_side        : pixels; a longer image is searched at this length of its longer side. None: as it is
    width           : pixels; every image is searched at this width (the ILSVRC setting is 500). None: as it is
    min_box_px      : a box whose width or height is smaller, measured at the size searched, is dropped
    max_boxes       : boxes of an image, at most; the best are kept. None: all
    sigma           : pixels, smoothing before the segmentation
    connectivity    : 8 neighbours of a pixel in the segmentation, or 4
    colour_bins     : bins of a colour histogram
    texture_bins    : bins of a histogram of directed gradients
    texture_range   : the gradient at which the last bin ends, as a share of that of a step from 0 to 255
    seed            : of the random part of the order; the image's content is mixed into it
    """

    mode: Literal["single", "fast", "quality"] = "fast"
    colour_spaces: list[Literal["hsv", "lab", "rgi", "hue", "intensity"]] = Field(default=[])
    k: list[Annotated[float, Field(gt=0)]] = Field(default=[])
    strategies: list[Annotated[str, Field(pattern=f"^[{MEASURES}]+$")]] = Field(default=[])
    max_side: int | None = Field(default=None, ge=1)
    width: int | None = Field(default=None, ge=1)
    min_box_px: int = Field(default=20, ge=1)
    max_boxes: int | None = Field(default=None, ge=1)
    sigma: float = Field(default=0.8, ge=0, le=8)
    connectivity: Literal[4, 8] = 8
    colour_bins: int = Field(default=25, ge=1, le=256)
    texture_bins: int = Field(default=10, ge=1, le=128)
    texture_range: float = Field(default=0.25, ge=0.01, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_size(self) -> "Settings":
        if self.width and self.max_side:
            raise ValueError("width or max_side, one of them null")
        return self

    def changed(self, **changes: Any) -> "Settings":
        """A copy with other values, checked."""
        return Settings(**{**self.model_dump(), **changes})

    @property
    def plan(self) -> Mode:
        """Colour spaces, k and strategies: the mode's where the field is empty."""
        spaces, k, strategies = MODES[self.mode]
        return tuple(self.colour_spaces) or spaces, tuple(self.k) or k, tuple(self.strategies) or strategies

    def describe(self) -> str:
        """All settings on one line, `name=value` in a fixed order; equal settings give equal text."""
        return " ".join(f"{name}={value!r}" for name, value in self.model_dump().items())

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any setting that matters and with the code of the search."""
        values = self.model_dump() | dict(zip(("colour_spaces", "k", "strategies"), self.plan, strict=True))
        del values["mode"]
        return hashlib.blake2b(f"{values}{_code()}".encode(), digest_size=16).hexdigest()


@cache
def _code() -> str:
    """A hash of what decides which boxes come out: this package, how its kernels are compiled, and the decoder."""
    modules = [*sorted(Path(__file__).parent.glob("*.py")), Path(compiled.__file__), Path(decode.__file__)]
    return hashlib.blake2b(b"".join(path.read_bytes() for path in modules)).hexdigest()
