"""What is kept of trainings with several seeds, and which of it belongs to the run at hand."""

import json

import numpy as np
import pytest

from lib.evaluation.inputs import Inputs
from lib.report import seeds
from lib.report.outcomes import Outcomes
from tests.evaluation.eval_tables import random_tables


def run_of(number, images=8):
    """Inputs whose detections follow from the number, on the same images and objects."""
    pictures, objects, _ = random_tables(1, images=images)
    detections = random_tables(number, images=images)[2]
    return Inputs.of(pictures, objects, detections[detections["image_id"].isin(pictures["image_id"])], ["a", "b", "c"])


def entry(seed, value, **more):
    return {"seed": seed, "commit": "abc", "processor": "p", "code": "c", "figures": {"voc10_map": value, **more}}


def test_summary_by_hand():
    """.5, .7, .9: mean .7, deviation with n - 1 of .2."""
    result = seeds.summary([{"m": 0.5, "n": None}, {"m": 0.7, "n": 0.25}, {"m": 0.9, "n": None}])
    assert result["m"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.2), "n": 3, "runs": [0.5, 0.7, 0.9]}
    assert result["n"] == {"mean": 0.25, "std": None, "n": 1, "runs": [None, 0.25, None]}
    assert seeds.summary([]) == {}


def test_runs_are_merged_by_seed_and_come_back(tmp_path):
    inputs = {number: run_of(number) for number in (1, 2, 3)}
    kept = {number: Outcomes.of(of) for number, of in inputs.items()}
    for seed, number, value in ((4, 2, 0.7), (3, 3, 0.1), (3, 1, 0.5)):  # the second run of seed 3 replaces the first
        seeds.keep(tmp_path, "rcnn", entry(seed, value), kept[number])
    assert [run["seed"] for run in seeds.kept(tmp_path, "rcnn")] == [3, 4]
    assert json.loads((tmp_path / "rcnn.json").read_text())["voc10_map"] == {
        "mean": pytest.approx(0.6), "std": pytest.approx(np.std([0.5, 0.7], ddof=1)), "n": 2, "runs": [0.5, 0.7],
    }
    read = seeds.read(tmp_path, "rcnn", inputs[1])
    assert list(read) == [3, 4]
    assert read[3].same(kept[1])
    assert read[4].same(kept[2])
    assert {name: list(images) for name, images in read[4].objects.items()} == {
        name: list(images) for name, images in kept[2].objects.items()
    }
    assert seeds.kept(tmp_path, "spp") == []


def test_a_run_without_detections_has_no_rows_and_counts(tmp_path):
    nothing = Inputs.of(*random_tables(1, images=8)[:2], random_tables(1, images=8)[2].iloc[:0], ["a", "b", "c"])
    seeds.keep(tmp_path, "rcnn", entry(3, 0.0), Outcomes.of(nothing))
    assert seeds.read(tmp_path, "rcnn", nothing)[3].same(Outcomes.of(nothing))


def test_only_runs_of_which_the_one_at_hand_is_one_belong_to_it(tmp_path):
    inputs = run_of(1)
    for method, numbers in (("rcnn", (1, 2, 3)), ("spp", (2, 3, 4))):
        for seed, number in enumerate(numbers):
            seeds.keep(tmp_path / "digits", method, entry(seed, 0.5), Outcomes.of(run_of(number)))
    here = dict.fromkeys(("rcnn", "spp"), Outcomes.of(inputs))
    belonging = seeds.of_these(tmp_path, here, inputs)
    assert list(belonging) == ["rcnn"], "the runs of spp are of other settings"
    assert list(belonging["rcnn"].runs) == [0, 1, 2]
    assert belonging["rcnn"].figures["voc10_map"]["n"] == 3
    other = run_of(1, images=5)
    assert seeds.of_these(tmp_path, {"rcnn": Outcomes.of(other)}, other) == {}, "other test images"
    assert seeds.of_these(tmp_path / "nothing", here, inputs) == {}
