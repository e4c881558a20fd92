"""The settings of selective search, and the three modes of the authors' code.

Fast and quality are the settings of the IJCV code that R-CNN's authors ran; single is the one strategy of the paper's
table 5. OpenCV's "fast" differs: k 150, 300 and 450, and no smallest box.
"""

import hashlib
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from lib.core.errors import Fault, InputError
from lib.proposals.colour import SPACES
from lib.proposals.grouping import MEASURES

Mode = tuple[tuple[str, ...], tuple[float, ...], tuple[str, ...]]

# Colour spaces, k, and sums of similarities: C colour, T texture, S size, F fill.
MODES: dict[str, Mode] = {
    "single": (("hsv",), (100.0,), ("CTSF",)),
    "fast": (("hsv", "lab"), (50.0, 100.0), ("CTSF", "TSF")),
    "quality": (("hsv", "lab", "rgi", "hue", "intensity"), (50.0, 100.0, 150.0, 300.0), ("CTSF", "TSF", "F", "S")),
}


@dataclass(frozen=True)
class Settings:
    """Every number of selective search.

    mode            : "single", "fast" or "quality"; what the next three mean where they are left empty
    colour_spaces   : names out of `colour.SPACES`
    k               : grey levels, the scale of the first segmentation; also its smallest region, in pixels
    strategies      : sums of similarities, letters out of "CTSF"
    max_side        : pixels; a longer image is searched at this length of its longer side. None or 0: as it is
    width           : pixels; every image is searched at this width (the ILSVRC setting is 500). None or 0: as it is
    min_box_px      : a box whose width or height is smaller, measured at the size searched, is dropped
    max_boxes       : at most so many boxes of an image, the best. None or 0: all
    sigma           : pixels, smoothing before the segmentation
    connectivity    : 8 neighbours of a pixel in the segmentation, or 4
    colour_bins     : bins of a colour histogram
    texture_bins    : bins of a histogram of directed gradients
    texture_range   : the gradient at which the last bin ends, as a share of that of a step from 0 to 255
    seed            : of the random part of the order; the image's content is mixed into it

    Raises InputError that names every setting out of range.
    """

    mode: str = "fast"
    colour_spaces: tuple[str, ...] = ()
    k: tuple[float, ...] = ()
    strategies: tuple[str, ...] = ()
    max_side: int | None = None
    width: int | None = None
    min_box_px: int = 20
    max_boxes: int | None = None
    sigma: float = 0.8
    connectivity: int = 8
    colour_bins: int = 25
    texture_bins: int = 10
    texture_range: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            Fault("setting out of range", f"selective_search.{name}", f"is {getattr(self, name)!r}", allowed,
                  "Correct it in params.yaml")
            for name, right, allowed in (
                ("mode", self.mode in MODES, f"one of {', '.join(MODES)}"),
                ("colour_spaces", set(self.colour_spaces) <= set(SPACES), f"names out of {', '.join(SPACES)}"),
                ("k", all(k > 0 for k in self.k), "numbers above 0"),
                ("strategies", all(s and set(s) <= set(MEASURES) for s in self.strategies), f"letters of {MEASURES}"),
                ("max_side", (self.max_side or 0) >= 0, "0 or more"),
                ("width", (self.width or 0) >= 0 and not (self.width and self.max_side),
                 "0 or more, and 0 where max_side is set"),
                ("min_box_px", self.min_box_px >= 1, "1 or more"),
                ("max_boxes", (self.max_boxes or 0) >= 0, "0 or more"),
                ("sigma", 0 <= self.sigma <= 8, "0 to 8"),
                ("connectivity", self.connectivity in (4, 8), "4 or 8"),
                ("colour_bins", 1 <= self.colour_bins <= 256, "1 to 256"),
                ("texture_bins", 1 <= self.texture_bins <= 128, "1 to 128"),
                ("texture_range", 0.01 <= self.texture_range <= 1, "0.01 to 1"),
            )
            if not right
        ]
        if faults:
            raise InputError(faults)
        for name in ("colour_spaces", "k", "strategies"):
            # Lists, as a params file gives them, become tuples, so that equal settings are equal.
            object.__setattr__(self, name, tuple(getattr(self, name)))

    @property
    def plan(self) -> Mode:
        """Colour spaces, k and strategies: the mode's where the field is empty."""
        spaces, k, strategies = MODES[self.mode]
        return self.colour_spaces or spaces, self.k or k, self.strategies or strategies

    def describe(self) -> str:
        """All settings on one line, `name=value` in a fixed order; equal settings give equal text."""
        return " ".join(f"{field.name}={getattr(self, field.name)!r}" for field in fields(self))

    def fingerprint(self) -> str:
        """32 hexadecimal digits that change with any setting that matters and with the code of the search."""
        values = asdict(self) | {name: getattr(self, name) or 0 for name in ("max_side", "width", "max_boxes")}
        values |= dict(zip(("mode", "colour_spaces", "k", "strategies"), ("", *self.plan), strict=True))
        return hashlib.blake2b(f"{values}{_code()}".encode(), digest_size=16).hexdigest()


@cache
def _code() -> str:
    """A hash of the modules that decide which boxes come out."""
    names = ("colour", "edges", "segmentation", "texture", "regions", "grouping", "selective_search", "settings")
    here = Path(__file__).parent
    return hashlib.blake2b(b"".join((here / f"{name}.py").read_bytes() for name in names)).hexdigest()
