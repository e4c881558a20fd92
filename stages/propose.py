"""Selective search on every image (Uijlings et al. 2013), with the recall it reaches on the test split.

Warns where it misses many objects of the training splits, and says what would find them.

Reads the images and `data/tables`; writes `data/proposals/selective_search.parquet`, metrics and curves.
An image with unchanged content and settings is taken from the last table and not computed again.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from lib.images.image_set import ImageSet, Splits
from lib.proposals import cached, fit, recall
from lib.proposals.search_images import search_images
from lib.selective_search.settings import Settings
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage

PARAMS = {"proposals.selective_search": Settings, "splits": Splits}
TABLE = "data/proposals/selective_search.parquet"


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, splits = life.params["proposals.selective_search"], life.params["splits"]
    image_set = ImageSet(life.data_root, life.dep("data/tables"))
    test = ImageSet(life.data_root, life.dep("data/tables"), splits.test, difficult=False)
    fingerprint = settings.fingerprint()
    keys = {image_id: cached.key(image_set.address(image_id)[2], fingerprint) for image_id in image_set.ids}

    def search(missing: Sequence[str]) -> Iterator[cached.Found]:
        life.announce(f"{len(image_set)} images, {len(missing)} of them new; {settings.describe()}")
        results = search_images(image_set, missing, settings, life.compute)
        yield from life.progress(results, len(missing), "image")

    seconds = cached.update(life.out(TABLE), keys, life.previous(TABLE), life.scratch / "pieces", search)
    milliseconds = 1000 * fmean(seconds.values()) if seconds else None
    tables.write_json(life.out("results/speed/selective_search.json"), {"proposals": milliseconds})

    table = ByImage(life.out(TABLE), tables.PROPOSALS)
    for path, value in recall.Recall.of(test, table).files("selective_search").items():
        tables.write_json(life.out(path), value)
    if note := recall.few(table, image_set.ids):
        print(note, flush=True)

    training = ImageSet(life.data_root, life.dep("data/tables"), splits.train, difficult=False)
    again = lambda ids, unlimited: search_images(image_set, ids, unlimited, life.compute)  # noqa: E731
    for caution in fit.cautions(training, table, settings, again):
        print(f"WARNING: {life.name}: {caution}", flush=True)


if __name__ == "__main__":
    stage(main, PARAMS)
