"""Overlays: the format of presets and experiments, and the presets' own values, equal to the full files of before."""

import hashlib
import json

import pytest

from lib.stage import overlay, params
from lib.stage.errors import InputError

DEFAULT = "rcnn:\n  schedule: {name: cosine, warmup: 0.2}  # why\n  size: 1\nscales: [1, 2]\n"
# sha256 of each preset's values as its full file had them; `before` says in which form. Where a number is meant to
# change, the new digest is in the message of the failing test.
BEFORE = {
    "bccd": "cc0489ddfa97d34fa6bb7c963082b436",
    "digits": "72e20fdda45b581d2495e1f271841111",
    "voc2007-alexnet": "14ec7c3e4b1e3ca30e268e52e4018963",
    "voc2007-vgg16": "f048a74bd24b38bdd528dce55b3c6227",
    "voc2012-alexnet": "9193d99877d67eae850d6346d5aab508",
}
BLOCKS = (
    "seed",
    "compute",
    "digits",
    "data",
    "splits",
    "proposals",
    "m0",
    "rcnn",
    "spp",
    "fast",
    "fast_svd",
    "fast_svm",
    "faster",
    "faster_joint",
    "evaluate",
    "pictures",
    "report",
)


def write(folder, **files):
    for name, text in {"default": DEFAULT, **files}.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder


def before(values):
    """Values with the keys of before: optimiser, momentum, schedule, step, gamma, warmup.

    Those without effect are left out, as are keys that came later, at values that change nothing.
    """
    later = [("most", None), ("levels", "exact"), ("lists", {"train": None, "val": None, "test": None}),
             ("pooling", "max"), ("fc_init", "gaussian"), ("clip_norm", None), ("touching", 0.0), ("letters_max", 0),
             ("scribbles_max", 0)]
    if not isinstance(values, dict):
        return values
    kept = {key: before(value) for key, value in values.items() if (key, value) not in later}
    for key in {"optimiser", "schedule"} & set(kept):
        shape = kept.pop(key)
        kept[key] = shape["name"]
        kept |= {"step" if part == "every" else part: value for part, value in shape.items() if part != "name"}
    return kept


PROPOSALS_MAX = {"rcnn": [], "spp": [], "fast": ["train"], "fast_svm": [], "faster": ["m2", "m4"]}  # where it was


def digest(values):
    kept = before({key: values[key] for key in BLOCKS})
    for method, blocks in PROPOSALS_MAX.items():
        most = kept[method].pop("proposals_max")
        assert blocks or most is None
        for block in blocks:
            kept[method][block]["proposals_max"] = most
    text = json.dumps(kept, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@pytest.mark.parametrize("name", sorted(BEFORE))
def test_presets_have_the_values_of_before(name):
    assert digest(overlay.values(name)) == BEFORE[name]


def test_presets_have_the_papers_values():
    alexnet, vgg16, later = (overlay.values(name) for name in ("voc2007-alexnet", "voc2007-vgg16", "voc2012-alexnet"))
    for values in (alexnet, vgg16, later):
        # R-CNN §2.3; Fast R-CNN §2.3, its prototxts; Faster R-CNN §3.1.3, its solvers.
        assert values["rcnn"]["finetune"]["learning_rate"] == 0.001
        assert values["fast"]["train"]["optimiser"] == {"name": "sgd", "momentum": 0.9}
        assert values["fast"]["train"]["schedule"] == {"name": "step", "every": 30000, "gamma": 0.1}
        assert values["faster"]["m1"]["schedule"] == {"name": "step", "every": 60000, "gamma": 0.1}
        assert values["faster"]["anchors"]["scales"] == [128.0, 256.0, 512.0]
        assert values["spp"]["scales"] == [480, 576, 688, 864, 1200]
        assert values["proposals"]["selective_search"]["max_boxes"] is None
    for values, expected in ((alexnet, ("alexnet", 227, 3)), (vgg16, ("vgg16", 224, 10))):
        assert (values["m0"]["backbone"], values["rcnn"]["crop"]["side"], values["fast"]["train"]["frozen"]) == expected
    assert (alexnet["report"]["measure"], later["report"]["measure"]) == ("voc07_map", "voc10_map")
    assert (later["data"]["root"], later["data"]["lists"]) == (
        "data/voc2012/VOCdevkit",
        {"train": "train", "val": None, "test": "val"},
    )
    assert overlay.values("bccd")["faster"]["m4"]["iterations"] == 292
    assert overlay.values("digits") == overlay.values("default") == params.load("presets/default.yaml")


def test_only_what_is_named_changes():
    values = {"a": {"b": 1, "c": [1], "shape": {"name": "step", "every": 2}}, "d": 2}
    changed = overlay.apply(values, {"a.c": [2, 3], "a.shape": {"name": "cosine"}}, "x.yaml")
    assert changed == {"a": {"b": 1, "c": [2, 3], "shape": {"name": "cosine"}}, "d": 2}
    assert overlay.apply(values, {"a.shape.every": 5}, "x.yaml")["a"]["shape"] == {"name": "step", "every": 5}
    assert values == {"a": {"b": 1, "c": [1], "shape": {"name": "step", "every": 2}}, "d": 2}


def test_all_unknown_keys_at_once_each_with_its_remedy():
    values = {"a": {"bold": 1, "shape": {"name": "step", "every": 2}}, "d": 2}
    with pytest.raises(InputError) as caught:
        overlay.apply(values, {"a.bol": 1, "d.e": 1, "a.shape.warmup": 0.1}, "x.yaml")
    assert str(caught.value).splitlines() == [
        "x.yaml: a.bol: is not in params.yaml. Did you mean a.bold?",
        "x.yaml: d.e: is not in params.yaml. Correct the key.",
        "x.yaml: a.shape.warmup: is not in params.yaml: a.shape is {name: step, every: 2}. Set a.shape as a whole.",
    ]


def test_a_preset_builds_on_another(tmp_path):
    write(tmp_path, one="set: {rcnn.size: 2, scales: [3]}\n", two="base: one\nset: {rcnn.size: 4}\n")
    assert overlay.preset("two", tmp_path) == {"rcnn.size": 4, "scales": [3]}
    assert overlay.values("two", tmp_path) == {
        "rcnn": {"schedule": {"name": "cosine", "warmup": 0.2}, "size": 4},
        "scales": [3],
    }
    assert overlay.preset("default", tmp_path) == {}
    assert overlay.names(tmp_path) == ["default", "one", "two"]


def test_a_key_of_a_shape_that_the_base_sets_and_the_other_way_round(tmp_path):
    step = "{name: step, every: 5, gamma: 0.1}"
    write(
        tmp_path,
        one=f"set:\n  rcnn.schedule: {step}\n",
        two="base: one\nset: {rcnn.schedule.every: 7}\n",
        three="set: {rcnn.schedule.warmup: 0.5}\n",
        four=f"base: three\nset:\n  rcnn.schedule: {step}\n",
    )
    assert overlay.preset("two", tmp_path) == {"rcnn.schedule": {"name": "step", "every": 7, "gamma": 0.1}}
    assert overlay.preset("three", tmp_path) == {"rcnn.schedule.warmup": 0.5}
    assert overlay.preset("four", tmp_path) == {"rcnn.schedule": {"name": "step", "every": 5, "gamma": 0.1}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "base: tow\nset: {}\n",
            r"one.yaml: base: is 'tow', which is no preset. Allowed: default, one, two. Did you mean two\?",
        ),
        ("base: two\nset: {}\n", r"two.yaml: base: is 'one', which builds on it: one > two > one"),
        ("base: one\nset: {}\n", r"one.yaml: base: is 'one', which builds on it: one > one"),
        ("set: {rcnn.size: 1, rcnn.size: 2}\n", r"one.yaml: cannot be read: .*duplicate key"),
        (
            "set:\n  rcnn.schedule.warmup: 0.1\n  rcnn.schedule: {name: cosine, warmup: 0.2}\n",
            r"one.yaml: rcnn.schedule.warmup: is set by rcnn.schedule too. Keep one of the two.",
        ),
        ("bases: two\nset: {}\n", r"one.yaml: bases: is not a setting of this stage. .* Did you mean base\?"),
        ("base: default\n", r"one.yaml: set: is missing"),
        ("set:\n", r"one.yaml: set: is None. Allowed: a valid dictionary"),
        ("set: {rcnn.siz: 1}\n", r"one.yaml: rcnn.siz: is not in params.yaml. Did you mean rcnn.size\?"),
    ],
)
def test_what_is_wrong_with_a_preset_is_named(tmp_path, text, message):
    write(tmp_path, one=text, two="base: one\nset: {}\n")
    with pytest.raises(InputError, match=f"(?s){message}"):
        overlay.preset("one", tmp_path)


def test_an_unknown_preset_names_the_known(tmp_path):
    with pytest.raises(InputError, match=r"bcd.yaml: is not there. Allowed: bccd, default. Did you mean bccd\?"):
        overlay.preset("bcd", write(tmp_path, bccd="set: {}\n"))
