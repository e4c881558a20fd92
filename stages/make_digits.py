"""Makes the default data set, handwritten digits on real backgrounds: data/digits/VOCdevkit."""

from typing import Annotated

from pydantic import Field

from lib.digits.digits import make_digits
from lib.digits.recipe import Recipe
from lib.stage.params import Settings
from lib.stage.run import Life
from stages.schemas import stage

Share = Annotated[float, Field(ge=0, le=1)]


class Digits(Settings):
    """Block `digits`; `Recipe` says what each number means."""

    seed: int = Field(ge=0)
    train: int = Field(ge=1)
    val: int = Field(ge=1)
    test: int = Field(ge=1)
    width: int = Field(ge=32, le=4096)
    height: int = Field(ge=32, le=4096)
    digits_min: int = Field(ge=1)
    digits_max: int = Field(ge=1)
    size_min: int = Field(ge=8)
    size_max: int = Field(ge=8)
    rotation_deg: float = Field(ge=0, le=45)
    blur_px: float = Field(ge=0, le=5)
    contrast: float = Field(ge=0, le=127)
    cut: Share
    overlap: Share
    touching: Share
    letters_max: int = Field(ge=0)
    scribbles_max: int = Field(ge=0)
    visible_min: float = Field(gt=0, le=0.9)
    difficult_below: Share
    background_split: float = Field(ge=0.2, le=0.8)
    crop_min: float = Field(gt=0, le=1)
    jpeg_quality: int = Field(ge=1, le=100)


PARAMS = {"digits": Digits}


def main(life: Life) -> None:
    """Composes and writes every image; takes seconds, so nothing is kept for a killed run."""
    make_digits(life.out("data/digits/VOCdevkit"), Recipe(**life.params["digits"].model_dump()))


if __name__ == "__main__":
    stage(main, PARAMS)
