"""Selective search over a set: one bad image is named and costs no other; finished images are not computed again."""

import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from lib.images.decode import content_of
from lib.proposals import cached
from lib.proposals import search_images as subject
from lib.proposals.search_images import search_images
from lib.selective_search.settings import Settings
from lib.stage.errors import InputError
from lib.stage.params import Compute
from lib.storage import tables

HERE = Compute(device="cpu", workers=0, launcher="loky", memory_gib=1.0)
FAST = Settings(mode="single", min_box_px=4, max_boxes=20)


@pytest.fixture
def addresses(tmp_path: Path) -> dict[str, tuple[str, str, str, bool]]:
    """Addresses of three images of a bright rectangle each, and of a web page that is called one."""
    made = {}
    for number, name in enumerate(["a.png", "b.png", "page.png", "z.png"]):
        pixels = np.full((40, 50, 3), 20, np.uint8)
        pixels[5 + number : 25, 10:35] = 220
        data = b"<html>not found</html>" if name == "page.png" else cv2.imencode(".png", pixels)[1].tobytes()
        (tmp_path / name).write_bytes(data)
        made[name] = str(tmp_path), name, content_of(data), False
    return made


def run(addresses: dict[str, tuple[str, str, str, bool]], folder: Path, earlier: Path | None = None) -> list[str]:
    """The stage's loop; returns the images that were searched."""
    image_set, searched = SimpleNamespace(address=addresses.__getitem__), []

    def search(missing):
        searched.extend(missing)
        return search_images(image_set, missing, FAST, HERE)

    keys = {name: cached.key(address[2], FAST.fingerprint()) for name, address in addresses.items()}
    cached.update(folder / "table.parquet", keys, earlier, folder / "scratch", search)
    return searched


def test_case_25_a_bad_image_is_named_and_the_others_are_kept(addresses, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(InputError, match=r"page.png: .*3c 68 74 6d 6c|page.png: .*<html>") as caught:
        run(addresses, folder)
    assert len(caught.value.faults) == 1
    assert "others are kept" in str(caught.value)
    assert not (folder / "table.parquet").exists(), "no half table"
    del addresses["page.png"]
    assert run(addresses, folder) == [], "all others are done"
    table = tables.read(folder / "table.parquet", tables.PROPOSALS)
    assert list(table["image_id"].unique()) == ["a.png", "b.png", "z.png"]


def test_only_changed_content_is_searched_again(addresses, tmp_path):
    del addresses["page.png"]
    assert run(addresses, tmp_path / "first") == ["a.png", "b.png", "z.png"]
    table = tmp_path / "first/table.parquet"
    addresses["b.png"] = addresses["b.png"][0], "b.png", addresses["z.png"][2], False
    (tmp_path / "b.png").write_bytes((tmp_path / "z.png").read_bytes())
    assert run(addresses, tmp_path / "second", table) == ["b.png"]
    before, after = (tables.read(path, tables.PROPOSALS) for path in (table, tmp_path / "second/table.parquet"))
    for name in ("a.png", "z.png"):
        np.testing.assert_array_equal(*(tables.boxes(frame[frame["image_id"] == name]) for frame in (before, after)))
    assert not np.array_equal(*(tables.boxes(frame[frame["image_id"] == "b.png"]) for frame in (before, after)))


def test_images_of_equal_content_each_keep_their_piece(addresses, tmp_path, monkeypatch):
    monkeypatch.setattr(cached, "PIECE", 1)
    del addresses["page.png"]
    (tmp_path / "z.png").write_bytes((tmp_path / "a.png").read_bytes())
    addresses["z.png"] = addresses["z.png"][0], "z.png", addresses["a.png"][2], False
    assert run(addresses, tmp_path / "run") == ["a.png", "b.png", "z.png"]
    table = tables.read(tmp_path / "run/table.parquet", tables.PROPOSALS)
    first, last = (tables.boxes(table[table["image_id"] == name]) for name in ("a.png", "z.png"))
    np.testing.assert_array_equal(first, last)
    assert len(first)


def test_no_image_is_timed_cold(addresses, monkeypatch):
    """Kernels are compiled, or loaded, before the clock of a process's first image starts."""
    warmed = []
    monkeypatch.setattr(subject, "_warm_up", lambda: warmed.append(time.sleep(0.5)))
    monkeypatch.setattr(subject, "search", lambda image, settings: (np.zeros((1, 4), np.float32), np.ones(1)))
    assert subject._search(addresses["a.png"], FAST).seconds < 0.5
    assert len(warmed) == 1
