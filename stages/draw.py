"""Pictures of a few test images: their objects, the best proposals, the best detections (right ones green).

Reads the detections of the method, the proposals, the tables and the images; writes `results/pictures/METHOD`.
"""

import numpy as np
from pydantic import Field

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import match
from lib.images.image_set import ImageSet, Splits
from lib.report import drawing
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage


class Pictures(Settings):
    """Block `pictures`: how many images, spread over the test split, and how many of the best boxes in each."""

    images: int = Field(ge=1)
    proposals: int = Field(ge=0)
    detections: int = Field(ge=0)


PARAMS = {"pictures": Pictures, "splits": Splits}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, folder = life.params["pictures"], life.dep("data/tables")
    image_set = ImageSet(life.data_root, folder, life.params["splits"].test)
    proposals = ByImage(life.input("proposals"), tables.PROPOSALS)
    found = tables.read(life.dep(f"data/detections/{life.item}.parquet"), tables.DETECTIONS)
    objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
    inputs = Inputs.of(image_set.table, objects, found, image_set.classes)
    found = found.assign(outcome=inputs.detections.in_table_order(match(inputs).outcome))
    by_image = tables.groups(found)
    chosen = np.linspace(0, len(image_set) - 1, min(settings.images, len(image_set))).round().astype(int)
    life.announce(f"{len(chosen)} pictures")
    for number, image_id in enumerate(image_set.ids[position] for position in chosen):
        boxes, labels = image_set.objects(image_id)
        best = by_image.get(image_id, found.iloc[:0]).nlargest(settings.detections, "score", keep="first")
        picture = drawing.panel(
            image_set.image(image_id),
            (boxes, [image_set.classes[label] for label in labels]),
            tables.boxes(proposals[image_id])[: settings.proposals],
            (tables.boxes(best), best["class"].tolist(), best["score"].to_numpy(), best["outcome"].to_numpy()),
        )
        drawing.write_png(life.out(f"results/pictures/{life.item}/{number:02d}.png"), picture)


if __name__ == "__main__":
    stage(main, PARAMS)
