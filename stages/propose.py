"""Selective search on every image (Uijlings et al. 2013), with the recall it reaches on the test split.

Reads the images and `data/tables`; writes `data/proposals/selective_search.parquet`, metrics and curves.
An image whose content and settings are unchanged is taken from the last table and not computed again.
"""

from collections.abc import Iterator, Sequence
from statistics import fmean

from lib.images.image_set import ImageSet
from lib.proposals import cached, recall
from lib.proposals.search_images import search_images
from lib.selective_search.settings import Settings
from lib.stage.params import Split
from lib.stage.run import Life
from lib.storage import tables
from lib.storage.by_image import ByImage
from stages.schemas import stage

PARAMS = {"proposals.selective_search": Settings, "splits.test": list[Split]}
TABLE = "data/proposals/selective_search.parquet"


def main(life: Life) -> None:
    """See the module's docstring."""
    settings = life.params["proposals.selective_search"]
    image_set = ImageSet(life.data_root, life.dep("data/tables"))
    test = ImageSet(life.data_root, life.dep("data/tables"), life.params["splits.test"], difficult=False)
    fingerprint = settings.fingerprint()
    keys = {one: cached.key(image_set.address(one)[2], fingerprint) for one in image_set.ids}

    def search(missing: Sequence[str]) -> Iterator[cached.Found]:
        life.announce(f"{len(image_set)} images, {len(missing)} of them new; {settings.describe()}")
        found = search_images(image_set, missing, settings, life.compute)
        yield from life.progress(found, len(missing), "image")

    seconds = cached.update(life.out(TABLE), keys, life.previous(TABLE), life.scratch / "pieces", search)
    milliseconds = 1000 * fmean(seconds.values()) if seconds else None
    tables.write_json(life.out("results/speed/selective_search.json"), {"proposals": milliseconds})

    table = ByImage(life.out(TABLE), tables.PROPOSALS)
    for path, value in recall.Recall.of(test, table).files("selective_search").items():
        tables.write_json(life.out(path), value)
    if note := recall.few(table, image_set.ids):
        print(note, flush=True)


if __name__ == "__main__":
    stage(main, PARAMS)
