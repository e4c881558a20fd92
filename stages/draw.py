"""Pictures of a few test images: their objects, the best proposals, the best detections (green if right).

`python -m stages.draw METHOD proposals=TABLE model=FILE scores=FILE`: SVMs in a file of their own may have templates,
which are drawn. Reads the detections of the method, the tables and the images; writes `results/pictures/METHOD`.
"""

from pydantic import Field

from lib.evaluation.inputs import Inputs
from lib.evaluation.matching import match
from lib.images.image_set import ImageSet, Splits
from lib.report import drawing, gallery, glyphs
from lib.stage.errors import Failures
from lib.stage.params import Settings
from lib.stage.run import Life
from lib.storage import checkpoint, tables
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
    detections = tables.read(life.dep(f"data/detections/{life.item}.parquet"), tables.DETECTIONS)
    objects = tables.read(folder / "objects.parquet", tables.OBJECTS)
    inputs = Inputs.of(image_set.table, objects, detections, image_set.classes)
    detections = detections.assign(outcome=inputs.detections.in_table_order(match(inputs).outcome))
    image_detections = tables.groups(detections)
    ids = gallery.spread(image_set.ids, settings.images)
    life.announce(f"{len(ids)} pictures")
    failures = Failures()
    for number, image_id in enumerate(ids):
        path = life.out(f"results/pictures/{life.item}/{number:02d}.png")
        if path.exists():  # of an earlier run of the same work, in which another image failed
            continue
        boxes, labels = image_set.objects(image_id)
        rows = image_detections.get(image_id, detections.iloc[:0])
        best = rows.nlargest(settings.detections, "score", keep="first")
        with failures(image_id, "Fix this image; the pictures of the others are kept"):
            picture = drawing.panel(
                image_set.image(image_id),
                (boxes, [image_set.classes[label] for label in labels]),
                proposals.boxes(image_id)[: settings.proposals],
                (tables.boxes(best), best["class"].tolist(), best["score"].to_numpy(), best["outcome"].to_numpy()),
            )
            drawing.write_png(path, picture)
    failures.check()
    if life.role("scores") != life.role("model"):  # SVMs, small files
        templates = glyphs.templates(checkpoint.load(life.input("scores")))
        if templates:
            drawing.write_png(life.out(f"results/pictures/{life.item}/templates.png"), glyphs.sheet(templates))


if __name__ == "__main__":
    stage(main, PARAMS)
