"""The tables of the report."""

from lib.evaluation.errors import effects, missed_rows
from lib.report import bootstrap, summary
from tests.report.browser import SQUARE, errors_of


def method(name, area):
    errors = errors_of(("i.jpg", "k", SQUARE, 0.8))
    metrics = {"voc07_map": 0.5, "voc10_map": area, "coco_map": None, "coco_map50": 0.4, "images": 2, "objects": 2}
    classes = [{"class": "k", "objects": 1, "voc10_ap": area}]
    parts = {"decode": 1.0, "trunk": 2.5}
    return summary.Method(name, metrics, parts, 61.0, 2**20, classes, missed_rows(errors), effects(errors))


def test_tables_of_the_report():
    interval = bootstrap.Interval(0.6, 0.5, 0.7, 1.0)
    pairs = [bootstrap.Pair("rcnn", "fast", bootstrap.Interval(-0.2, -0.3, -0.1, 0.0))]
    proposals = {"p1": {"recall_50": 0.9, "recall_70": 0.8, "abo": 0.7, "boxes_per_image": 300.0}}
    methods = [method("rcnn", 0.6), method("fast", 0.8)]
    tables = summary.tables(methods, {"rcnn": interval}, pairs, proposals, "voc10_map", 0.95)
    text = {table.title: table.markdown() for table in tables}
    assert "| rcnn | 0.500 | 0.600 | 0.500 to 0.700 | – | 0.400 | 3.500 | 61.0 | 1.000 |" in text["All methods"]
    assert "Highest voc10 mAP here: fast" in text["All methods"]
    assert "| rcnn − fast | -0.200 | -0.300 to -0.100 | 0.000 | 1 | yes |" in text["Statistical significance"]
    assert "| k | 1 | 0.600 | 0.800 |" in text["By class"]
    assert "| p1 | 0.900 | 0.800 | 0.700 | 300.0 |" in text["Proposals"]
    assert "| rcnn | AlexNet | 58.5 | 9.800 | 22.0 |" in text["Published results"]
    assert "fast_svd" not in text["Published results"]


def test_what_was_not_measured_is_said():
    rcnn = summary.Method(**{**vars(method("rcnn", 0.6)), "parts": {"proposals": None, "network": 4.0}})
    assert rcnn.milliseconds == 4.0
    text = summary.tables([rcnn], {}, [], {}, "voc10_map", 0.95)[0].markdown()
    assert "Without the proposals, which came from a cache: rcnn" in text


def test_cells():
    cells = (None, 3, 0.12345, 12.34, 1234.5, "x")
    assert [summary.shown(cell) for cell in cells] == ["–", "3", "0.123", "12.3", "1,234", "x"]
    assert "| a\\|b | 1 |" in summary.Table("t", ["x", "y"], [["a|b", 1]]).markdown()


def test_several_seeds_show_mean_and_deviation():
    several = {"mean": 0.7, "std": 0.0123, "n": 3, "runs": [0.7, 0.7, 0.7]}
    repeated = {name: several for name in ("voc07_map", "voc10_map", "coco_map", "coco_map50")}
    rcnn = summary.Method(**{**vars(method("rcnn", 0.6)), "repeated": repeated})
    two = summary.Method(**{**vars(method("spp", 0.65)), "repeated": {"voc10_map": {**several, "n": 2}}})
    text = summary.tables([rcnn, two], {}, [], {}, "voc10_map", 0.95)[0].markdown()
    assert "| rcnn | 0.700 ± 0.012 | 0.700 ± 0.012 |" in text
    assert "| spp | 0.500 | 0.650 |" in text, "two seeds are too few"
    assert "Highest voc10 mAP here: rcnn" in text
    assert "trainings with 2 to 3 seeds" in text
