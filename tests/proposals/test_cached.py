"""The cached table at the number of pieces that a large set makes: no storage part may keep a file of each open."""

import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from lib.proposals import cached
from lib.storage import tables
from lib.storage.by_image import ByImage

COUNT = 400
KEYS = {f"{image:04d}.jpg": f"{image:016x}" for image in range(COUNT)}


def boxes(image_id: str) -> np.ndarray:
    """Up to three boxes, all different."""
    image = int(image_id[:4])
    return np.array([[image, row, image + 1, row + 1] for row in range(image % 4)], np.float32).reshape(-1, 4)


class Search:
    """Gives the boxes of each image, counting them; raises KeyboardInterrupt before the image `stop`."""

    def __init__(self, stop: int = COUNT) -> None:
        self.stop, self.searched = stop, 0

    def __call__(self, missing: Sequence[str]) -> Iterator[cached.Found]:
        for image_id in missing:
            if int(image_id[:4]) == self.stop:
                raise KeyboardInterrupt
            self.searched += 1
            yield cached.Found(image_id, boxes(image_id), np.ones(len(boxes(image_id)), np.float32), 1.0)


@pytest.fixture
def few_files() -> Iterator[None]:
    """This process may open 32 files more than it has open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (psutil.Process().num_fds() + 32, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def filled() -> list[str]:
    return [image_id for image_id in KEYS if len(boxes(image_id))]


def test_hundreds_of_pieces_are_put_together_with_few_open_files(
    tmp_path: Path, few_files: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "PIECE", 1)
    cached.update(tmp_path / "t.parquet", KEYS, None, tmp_path / "pieces", Search())
    assert len(list((tmp_path / "pieces").iterdir())) == COUNT
    table = ByImage(tmp_path / "t.parquet", cached.SCHEMA)
    for image_id in KEYS:
        np.testing.assert_array_equal(table.boxes(image_id), boxes(image_id))
    assert list(tables.read(tmp_path / "t.parquet", cached.SCHEMA)["image_id"].unique()) == filled()


def test_pieces_and_an_earlier_table_by_turns(tmp_path: Path, few_files: None) -> None:
    """Every third image is in an earlier table, the others come half from a killed run: the same bytes."""
    whole, earlier = tmp_path / "whole.parquet", tmp_path / "earlier.parquet"
    cached.update(whole, KEYS, None, tmp_path / "first", Search())
    cached.update(earlier, dict(list(KEYS.items())[::3]), None, tmp_path / "second", Search())
    pieces, target = tmp_path / "pieces", tmp_path / "t.parquet"
    with pytest.raises(KeyboardInterrupt):
        cached.update(target, KEYS, earlier, pieces, Search(stop=COUNT // 2))
    assert not target.exists()
    rest = Search()
    cached.update(target, KEYS, earlier, pieces, rest)
    assert target.read_bytes() == whole.read_bytes()
    # An image without boxes leaves no row to be known by, so it is searched again.
    empty = COUNT - len(filled())
    assert rest.searched <= COUNT * 2 / 3 / 2 + empty + cached.PIECE


def test_a_row_group_holds_a_piece_of_images(tmp_path: Path) -> None:
    """It is decoded as a whole for any of its images."""
    cached.update(tmp_path / "t.parquet", KEYS, None, tmp_path / "pieces", Search())
    file = pq.ParquetFile(tmp_path / "t.parquet")
    assert file.num_row_groups == COUNT / cached.PIECE
    some = set(file.read_row_group(0, columns=["image_id"])["image_id"].to_pylist())
    assert some == set(filled()) & set(list(KEYS)[: cached.PIECE])


def test_a_chosen_part_is_written_with_its_keys(tmp_path: Path) -> None:
    cached.update(tmp_path / "t.parquet", KEYS, None, tmp_path / "pieces", Search())
    table, ids = ByImage(tmp_path / "t.parquet", cached.SCHEMA), filled()[5:90:7]
    cached.write(tmp_path / "part.parquet", ids, lambda _: table)
    part = tables.read(tmp_path / "part.parquet", cached.SCHEMA)
    assert list(part["image_id"].unique()) == ids
    assert part["key"].tolist() == [KEYS[image_id] for image_id in part["image_id"]]
    np.testing.assert_array_equal(tables.boxes(part), np.concatenate([boxes(image_id) for image_id in ids]))
