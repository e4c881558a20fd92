import hashlib
import multiprocessing
from pathlib import Path

import cv2
import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lib.selective_search import colour, edges, grouping, segmentation, texture
from lib.selective_search import settings as settings_module
from lib.selective_search.grouping import group
from lib.selective_search.regions import describe
from lib.selective_search.segmentation import segment
from lib.selective_search.selective_search import search, warm_up
from lib.selective_search.settings import MODES, Settings
from lib.stage import params
from lib.stage.errors import InputError
from tests.selective_search import search_twin
from tests.selective_search.test_segmentation import patches

ROOMS = Path(__file__).parents[3] / "shared/data/rooms/JPEGImages"


def scene(seed, height, width):
    """An image with structure at several scales."""
    random = np.random.default_rng(seed)
    image = cv2.resize(random.integers(0, 256, (5, 6, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(6):
        x, y = int(random.integers(width)), int(random.integers(height))
        size = int(random.integers(5, 6 + max(width, height) // 3))
        cv2.rectangle(image, (x, y), (x + size, y + size // 2), random.integers(0, 256, 3).tolist(), -1)
    return np.clip(image.astype(int) + random.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)


def digest(arrays):
    return hashlib.md5(b"".join(array.tobytes() for array in arrays)).hexdigest()


def search_digest(image):
    return digest(search(image, min_box_px=4))


@pytest.mark.parametrize("mode", MODES)
def test_boxes_are_those_of_the_twin(mode):
    image = np.ascontiguousarray(patches(5, (26, 31)).transpose(1, 2, 0))
    spaces, scales, strategies = MODES[mode]
    if mode == "quality":
        spaces, scales = spaces[2:], scales[:2]
    settings = Settings(mode=mode, colour_spaces=list(spaces), k=list(scales), min_box_px=5, texture_range=0.5)
    expected = set()
    for space in spaces:
        planes = colour.convert(image, space)
        keys = edges.weigh(edges.smooth(planes, 0.8), 8)
        for k in scales:
            labels = search_twin.segment(keys, k, round(k))
            for strategy in strategies:
                expected |= set(search_twin.group(labels, planes, strategy, 8, 25, 10, 0.5))
    expected = {box for box in expected if min(box[2] - box[0], box[3] - box[1]) >= 5}
    boxes, _ = search(image, settings)
    assert len(boxes) == len(expected) > 3
    assert {tuple(box) for box in boxes.astype(int).tolist()} == expected


def test_order_is_position_times_a_uniform_number():
    """Scores undo to position * u with u in [0, 1); over many boxes the mean of u is a half."""
    image = scene(0, 200, 260)
    settings = Settings(mode="single", min_box_px=1)
    boxes, scores = search(image, settings)
    planes = colour.convert(image, "hsv")
    keys = edges.weigh(edges.smooth(planes, 0.8), 8)
    labels, pairs = segment(*edges.ascending(keys), keys.shape[1:], 100.0, 100)
    (regions,) = describe([labels], *texture.bins(planes, 25, 10, settings.texture_range), 25, 10)
    (hierarchy,) = group(regions, pairs, ["CTSF"], labels.size)
    position = {}
    for i, box in enumerate(hierarchy.tolist()):
        position.setdefault(tuple(box), []).append(len(hierarchy) - i)
    uniform = np.array([
        (1 / float(score) - 1) / position[tuple(box)][0]
        for box, score in zip(boxes.astype(int).tolist(), scores, strict=True)
        if len(position[tuple(box)]) == 1
    ])
    assert len(uniform) > 40
    assert uniform.min() >= 0
    assert uniform.max() < 1 + 1e-4
    assert abs(uniform.mean() - 0.5) < 4 / np.sqrt(12 * len(uniform))


@pytest.mark.parametrize("shape", [(300, 732), (227, 640), (10, 300), (1, 1), (1, 100), (100, 1), (2, 2), (375, 500)])
def test_any_shape(shape):
    boxes, scores = search(scene(1, *shape))
    check(boxes, scores, *shape)


def check(boxes, scores, height, width):
    assert boxes.dtype == scores.dtype == np.float32
    assert boxes.shape == (len(scores), 4)
    assert len(scores) >= 1
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= [width, height]).all()
    assert (np.diff(scores) <= 0).all()
    assert (scores > 0).all()
    assert (scores <= 1).all()


@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))),
    st.sampled_from(list(MODES)),
    st.integers(1, 25),
    st.none() | st.integers(1, 50),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_boxes_lie_in_the_image(image, mode, min_box_px, max_side):
    boxes, scores = search(image, mode=mode, min_box_px=min_box_px, max_side=max_side)
    check(boxes, scores, *image.shape[:2])
    if not max_side:
        assert len(np.unique(boxes, axis=0)) == len(boxes)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (1, 100), (100, 100)])
def test_nothing_to_find_gives_the_whole_image(shape):
    boxes, scores = search(np.full((*shape, 3), 255, np.uint8))
    assert boxes.tolist() == [[0, 0, shape[1], shape[0]]]
    assert len(scores) == 1


def test_axes_and_origin_of_a_bright_rectangle():
    """Case 28: 200 wide, 100 high; the rectangle's corners come back half-open, x before y."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[30:70, 120:180] = 255
    boxes, _ = search(image, sigma=0.0)
    assert sorted(boxes.tolist()) == [[0, 0, 200, 100], [120, 30, 180, 70]]


def test_small_boxes_go_and_a_side_of_the_minimum_stays():
    image = np.zeros((100, 200, 3), np.uint8)
    image[10:30, 10:30] = 255
    image[50:69, 50:90] = 255
    boxes = {tuple(box) for box in search(image, sigma=0.0, min_box_px=20)[0].tolist()}
    assert (10, 10, 30, 30) in boxes
    assert (50, 50, 90, 69) not in boxes
    assert (50, 50, 90, 69) in {tuple(box) for box in search(image, sigma=0.0, min_box_px=19)[0].tolist()}


def test_bounded_side_scales_boxes_back():
    """The rectangle lies on multiples of 4 so that a search at a quarter of the size sees its exact edges."""
    image = np.zeros((400, 800, 3), np.uint8)
    image[120:280, 480:720] = 255
    for bound in ({"max_side": 200}, {"width": 200}, {"max_side": 200, "mode": "quality"}):
        boxes, _ = search(image, sigma=0.0, **bound)
        assert [480, 120, 720, 280] in boxes.tolist()
        assert [0, 0, 800, 400] in boxes.tolist()
    small = np.ascontiguousarray(image[::4, ::4])
    assert digest(search(small, max_side=200)) == digest(search(small)) == digest(search(small, max_side=None))
    assert (search(small, width=800, sigma=0.0)[0] <= [200, 100, 200, 100]).all()


def test_minimum_side_is_measured_at_the_size_searched():
    image = np.zeros((400, 800, 3), np.uint8)
    image[120:280, 480:720] = 255
    assert [480, 120, 720, 280] in search(image, sigma=0.0, max_side=200, min_box_px=40)[0].tolist()
    assert [480, 120, 720, 280] not in search(image, sigma=0.0, max_side=200, min_box_px=41)[0].tolist()


def test_clipping_an_odd_scale():
    boxes, scores = search(scene(2, 333, 517), max_side=499)
    check(boxes, scores, 333, 517)
    assert [0, 0, 517, 333] in boxes.tolist()


def test_cap_keeps_the_best():
    image = scene(3, 150, 200)
    boxes, scores = search(image)
    few, few_scores = search(image, max_boxes=7)
    np.testing.assert_array_equal(few, boxes[:7])
    np.testing.assert_array_equal(few_scores, scores[:7])
    assert len(search(image, max_boxes=None)[0]) == len(boxes)


@pytest.mark.parametrize(
    ("image", "error", "words"),
    [
        (np.zeros((30, 40), np.uint8), ValueError, r"\(30, 40\).*\(H, W, 3\)"),
        (np.zeros((30, 40, 1), np.uint8), ValueError, r"\(30, 40, 1\)"),
        (np.zeros((30, 40, 4), np.uint8), ValueError, r"\(30, 40, 4\)"),
        (np.zeros((0, 40, 3), np.uint8), ValueError, r"at least one pixel"),
        (np.zeros((30, 40, 3), np.uint16), TypeError, "uint16.*uint8"),
        (np.zeros((30, 40, 3), np.float32), TypeError, "float32.*uint8"),
        ([[0]], TypeError, "list.*uint8"),
    ],
)
def test_what_is_no_image_is_refused(image, error, words):
    with pytest.raises(error, match=words):
        search(image)


def test_views_give_what_copies_give():
    image = scene(4, 90, 120)
    assert digest(search(image[:, ::-1])) == digest(search(image[:, ::-1].copy()))


def test_content_and_seed_decide_the_order_alone():
    image = scene(5, 150, 200)
    first = search(image)
    search(scene(6, 70, 80))
    assert digest(search(image.copy())) == digest(first)
    other = search(image, seed=1)
    assert digest(other) != digest(first)
    assert {tuple(box) for box in other[0].tolist()} == {tuple(box) for box in first[0].tolist()}


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_same_bytes_in_any_pool(method):
    images = [scene(seed, 120, 160) for seed in range(4)]
    expected = [search_digest(image) for image in images]
    for workers in (1, 2):
        with multiprocessing.get_context(method).Pool(workers) as pool:
            assert pool.map(search_digest, images[::-1], chunksize=1)[::-1] == expected


def test_same_bytes_through_joblib():
    images = [scene(seed, 120, 160) for seed in range(3)]
    expected = [search_digest(image) for image in images]
    assert joblib.Parallel(n_jobs=2)(joblib.delayed(search_digest)(image) for image in images) == expected


def test_modes_are_the_authors():
    assert Settings().plan == (("hsv", "lab"), (50, 100), ("CTSF", "TSF"))
    assert Settings(mode="single").plan == (("hsv",), (100,), ("CTSF",))
    assert Settings(mode="quality").plan == (
        ("hsv", "lab", "rgi", "hue", "intensity"), (50, 100, 150, 300), ("CTSF", "TSF", "F", "S")
    )
    assert Settings().changed(mode="single").plan == Settings(mode="single").plan
    assert Settings(k=[70.0]).plan == (("hsv", "lab"), (70,), ("CTSF", "TSF"))


def test_settings_out_of_range_are_all_named():
    out_of_range = {
        "mode": "slow", "k": [0.0], "strategies": ["CX"], "connectivity": 6, "colour_spaces": ["rgb"], "sigma": 9.0,
    }
    with pytest.raises(InputError) as caught:
        params.validate({"selective_search": out_of_range}, {"selective_search": Settings})
    for name in out_of_range:
        assert f"selective_search.{name}" in str(caught.value)
    with pytest.raises(InputError, match="width or max_side, one of them null"):
        params.validate({"selective_search": {"width": 500, "max_side": 500}}, {"selective_search": Settings})


@pytest.mark.parametrize("module", [settings_module.compiled, settings_module.decode])
def test_fingerprint_follows_the_code_that_decides_the_boxes(module, monkeypatch, tmp_path):
    """How kernels are compiled and images decoded lies outside the package, and decides as well."""
    before = settings_module._code.__wrapped__()
    (tmp_path / "edited.py").write_text("# another rule")
    monkeypatch.setattr(module, "__file__", str(tmp_path / "edited.py"))
    assert settings_module._code.__wrapped__() != before


def test_fingerprint_follows_what_matters():
    base = Settings()
    assert base.fingerprint() == Settings(mode="fast", k=[50.0, 100.0], max_side=None).fingerprint()
    different = {"mode": "single", "k": [50.0], "max_side": 400, "width": 500, "min_box_px": 19, "max_boxes": 10,
                 "sigma": 0.7, "connectivity": 4, "colour_bins": 24, "texture_bins": 9, "texture_range": 0.2, "seed": 1,
                 "strategies": ["S"], "colour_spaces": ["lab"]}
    prints = {base.changed(**{name: value}).fingerprint() for name, value in different.items()}
    assert len(prints) == len(different)
    assert base.fingerprint() not in prints
    assert "min_box_px=20" in base.describe()


def test_warm_up_leaves_nothing_to_compile():
    warm_up()
    before = [len(kernel.signatures) for kernel in (grouping._group, segmentation._merge)]
    for mode in MODES:
        search(scene(7, 50, 60), mode=mode, max_side=40)
    assert [len(kernel.signatures) for kernel in (grouping._group, segmentation._merge)] == before


@pytest.mark.skipif(not ROOMS.exists(), reason="the images of ../shared/data/rooms are not here")
def test_a_real_image_gives_about_as_many_boxes_as_the_paper():
    image = cv2.cvtColor(cv2.imread(str(sorted(ROOMS.iterdir())[0])), cv2.COLOR_BGR2RGB)
    for mode, low, high in (("single", 150, 700), ("fast", 900, 4000)):
        assert low < len(search(image, mode=mode, width=500)[0]) < high
