"""M0: the network trained on ImageNet that all methods start from, with its input recipe.

Reads the weights that `m0` names; writes `data/models/m0.pt`.
"""

from typing import Literal

from lib.backbones import backbones, weights
from lib.stage.params import Settings
from lib.stage.run import Life
from stages.schemas import stage


class M0(Settings):
    """Block `m0`.

    backbone : architecture
    weights  : imagenet (published weights), or the path of a state dict of that architecture
    """

    backbone: Literal["efficientnet_lite0", "alexnet", "vgg16", "resnet18", "resnet50"]
    weights: str


PARAMS = {"m0": M0}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params["m0"]
    life.announce(f"{settings.backbone}, weights {settings.weights}")
    backbones.save_m0(life.out("data/models/m0.pt"), weights.pretrained(settings.backbone, settings.weights))


if __name__ == "__main__":
    stage(main, PARAMS)
