"""Every number of the default data set."""

from dataclasses import dataclass

from lib.stage.errors import Fault, InputError
from lib.stage.params import Seed


@dataclass(frozen=True)
class Recipe:
    """Shares are in [0, 1], lengths in pixels."""

    seed: Seed
    train: int  # images of the split
    val: int
    test: int
    width: int  # of an image
    height: int
    digits_min: int  # per image, uniform; fewer where no free position is found, never none
    digits_max: int
    size_min: int  # longer side of the upright digit's ink, log-uniform
    size_max: int
    rotation_deg: float  # largest turn to either side
    blur_px: float  # largest sigma of the edge blur
    contrast: float  # least distance of the ink from the mean around it, grey levels of 255, at most 127
    cut: float  # share of digits placed across the border
    overlap: float  # share of digits placed over another one
    touching: float  # share of digits placed beside another one, at most two pixels off or over its box
    letters_max: int  # letters and signs in an image beside the digits, uniform from 0; placed as digits are
    scribbles_max: int  # lines of a pen behind the digits, uniform from 0
    visible_min: float  # a digit keeps at least this share of its ink
    difficult_below: float  # difficult where less than this share of the ink is visible, cut and covered counted alike
    background_split: float  # left share of each photograph for train and val; the rest is for test
    crop_min: float  # smallest background crop, as a share of the largest that fits
    jpeg_quality: int

    def __post_init__(self) -> None:
        faults = [
            Fault("bad setting", f"digits.{low}", f"is {getattr(self, low)}",
                  f"at most digits.{high}, which is {getattr(self, high)}", "Change one of them")
            for low, high in [("digits_min", "digits_max"), ("size_min", "size_max")]
            if getattr(self, low) > getattr(self, high)
        ]
        if self.size_max > min(self.width, self.height) // 2:
            faults.append(Fault("bad setting", "digits.size_max", f"is {self.size_max}",
                                "at most half the image's shorter side",
                                "Lower it, or raise digits.width and digits.height"))
        if self.cut + self.overlap + self.touching > 1:
            faults.append(Fault("bad setting", "digits.touching", f"is {self.touching}",
                                f"at most 1 with digits.cut and digits.overlap, {self.cut} and {self.overlap}",
                                "Lower one of the three"))
        if faults:
            raise InputError(faults)
