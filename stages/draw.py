"""Pictures of a few test images: their objects, the best proposals, the best detections (right ones green).

Reads the detections of the method, the proposals, the tables and the images; writes `results/pictures/METHOD`.
"""

import numpy as np
from pydantic import Field

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import match
from lib.images.image_set import Photographs, Splits
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
    photographs = Photographs(life.data_root, folder, life.params["splits"].test)
    proposals = ByImage(life.input("proposals"), tables.PROPOSALS)
    found = tables.read(life.dep(f"data/detections/{life.item}.parquet"), tables.DETECTIONS)
    objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
    inputs = Inputs.of(photographs.table, objects, found, photographs.classes)
    found = found.assign(outcome=inputs.detections.in_table_order(match(inputs).outcome))
    by_image = tables.groups(found)
    chosen = np.linspace(0, len(photographs) - 1, min(settings.images, len(photographs))).round().astype(int)
    life.announce(f"{len(chosen)} pictures")
    for number, image_id in enumerate(photographs.ids[position] for position in chosen):
        boxes, labels = photographs.objects(image_id)
        best = by_image.get(image_id, found.iloc[:0]).nlargest(settings.detections, "score", keep="first")
        picture = drawing.panel(
            photographs.image(image_id),
            (boxes, [photographs.classes[label] for label in labels]),
            tables.boxes(proposals[image_id])[: settings.proposals],
            (tables.boxes(best), best["class"].tolist(), best["score"].to_numpy(), best["outcome"].to_numpy()),
        )
        drawing.write_png(life.out(f"results/pictures/{life.item}/{number:02d}.png"), picture)


if __name__ == "__main__":
    stage(main, PARAMS)
