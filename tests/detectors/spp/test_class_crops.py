import cv2
import numpy as np
import pytest

from lib.detectors.spp.class_crops import FolderCrops, ObjectCrops, epoch_length, epoch_rows
from lib.images.warp import warp
from lib.stage.errors import InputError

RANDOM = np.random.default_rng(0)


class FakeImages:
    classes, ids = ["cat", "dog"], ["a", "b", "c"]
    pixels = np.random.default_rng(1).integers(0, 256, (60, 80, 3), np.uint8)

    def image(self, image_id):
        return self.pixels

    def objects(self, image_id):
        if image_id == "b":
            return np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return np.array([[0, 0, 20, 20], [30, 10, 70, 50]], np.float32), np.array([1, 0])


def test_objects_are_cut_with_their_context_at_any_size():
    crops = ObjectCrops(FakeImages(), 16)
    assert (crops.names, crops.labels) == (["a", "a", "c", "c"], [1, 0, 1, 0])
    for side in (32, 48):
        cut = crops.cut(1, side, RANDOM)
        expected = warp(FakeImages.pixels, np.array([[30, 10, 70, 50]], np.float32), side, 16)
        np.testing.assert_array_equal(cut.pixels, expected.pixels)
    assert crops.fixed


def test_no_object_at_all():
    empty = type("Empty", (FakeImages,), {"ids": ["b"]})
    with pytest.raises(InputError, match=r"no object in splits.train"):
        ObjectCrops(empty(), 16)


def write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def test_folder_of_classes(tmp_path):
    columns = np.broadcast_to(np.arange(64, dtype=np.uint8)[None, :, None] * 4, (32, 64, 3))
    for name in ("dog/1.png", "cat/2.png", "cat/1.png"):
        write(tmp_path / name, columns)
    (tmp_path / "cat/notes.txt").write_text("not an image")
    crops = FolderCrops(tmp_path, 0.5)
    assert crops.classes == ["cat", "dog"]
    assert (crops.names, crops.labels) == (["cat/1.png", "cat/2.png", "dog/1.png"], [0, 0, 1])
    cuts = [crops.cut(0, 16, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    np.testing.assert_array_equal(cuts[0].pixels, cuts[1].pixels)
    assert len({int(cut.pixels[0, 0, 0, 0]) for cut in cuts}) > 1
    for cut in cuts:  # half of the shorter side, unscaled at 16 pixels: 16 neighbouring columns
        assert (np.diff(cut.pixels[0, 0, :, 0].astype(int)) == 4).all()
    assert not crops.fixed


def test_folder_that_holds_none(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(InputError, match=r"spp.pretrain.folder: .* has no images in folders of classes"):
            FolderCrops(folder, 0.875)


def test_an_epoch_sees_each_crop_once():
    assert epoch_length(10, 4) == 3
    order = list(range(10))
    assert [list(epoch_rows(i, 10, 4, order)) for i in (3, 4, 5)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
