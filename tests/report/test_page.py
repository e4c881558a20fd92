"""The report: its tables, its images, and the page in a real browser, where one is installed."""

import base64
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from lib.evaluation.errors import classify, effects, missed_rows, shares
from lib.evaluation.inputs import Inputs
from lib.report import bootstrap, collect, gallery, page, page_trace, summary
from tests.evaluation.eval_tables import detections_table, images_table, objects_table, random_tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><b>"&'
SQUARE = (10, 10, 60, 60)


def browse(path, tmp_path):
    """The page's elements after its script has run, and what the browser logged."""
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'user'}",
         "--virtual-time-budget=4000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def image(width=120, height=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def errors_of(*detections):
    objects = [("i.jpg", HOSTILE, SQUARE), ("i.jpg", "k", (70, 10, 110, 60)), ("j.jpg", "k", SQUARE, "difficult")]
    inputs = Inputs.of(images_table("i.jpg", "j.jpg"), objects_table(*objects), detections_table(*detections), [HOSTILE, "k"])
    return classify(inputs)


def whole_page():
    found = {
        "one": errors_of(("i.jpg", HOSTILE, SQUARE, 0.9), ("i.jpg", "k", SQUARE, 0.8), ("j.jpg", "k", SQUARE, 0.7)),
        "two": errors_of(("i.jpg", "k", (70, 10, 85, 60), 0.9), ("i.jpg", "k", (0, 70, 9, 79), 0.1)),
    }
    pictures = [
        {**gallery.describe(found, name, 10), "width": 120, "height": 80, "source": page.data_uri(image(), 64)}
        for name in ("i.jpg", "j.jpg")
    ]
    curve = {label: {name: [[0, 1], [1, 0.5]] for name in found} for label in ("all classes", HOSTILE, "k")}
    data = {
        "methods": list(found), "classes": [HOSTILE, "k"], "precision_recall": curve, "top": [1, 25], "best": 10,
        "errors": {name: shares(one, [1, 25]) for name, one in found.items()},
        "effects": {name: effects(one) for name, one in found.items()},
        "curves": {
            "dots": {"x": "ms", "y": "mAP", "log": True, "dots": True, "series": {"one": [[20.0, 0.5]], "two": [[900.0, 0.7]]}},
            "lines": {"x": "iou", "y": "recall", "unit": True, "series": {"p1": [[0.5, 1.0], [1.0, None]]}},
            "nothing": {"x": "x", "y": "y", "series": {}},
        },
        "images": pictures,
    }
    return page.page("Title <1>", "intro", [summary.Table("T", ["a", HOSTILE], [[HOSTILE, 0.5], ["x", None]], "note")], data)


def test_the_page_loads_nothing_from_anywhere():
    text = whole_page()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", text)
    assert not re.findall(r"url\(|@import|fetch\(|XMLHttpRequest", text)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S).group(1)
    assert json.loads(data)["classes"] == [HOSTILE, "k"]
    assert "Title &lt;1&gt;" in text


def test_not_a_number_is_refused():
    with pytest.raises(ValueError):
        page.page("t", "i", [], {"x": float("nan")})


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_in_a_browser(tmp_path):
    path = tmp_path / "report.html"
    path.write_text(whole_page(), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    figures = re.findall(r"<figcaption>(.*?)</figcaption>", dom)
    # Image i: two boxes of method one, and the k that it missed; two boxes of method two, which missed both objects.
    assert figures == ["ground truth", "one: 2 detections, 1 missed", "two: 2 detections, 2 missed",
                       "ground truth", "one: 1 detections", "two: 0 detections"]
    assert "2 images, 8 detections and missed objects shown." in dom
    assert dom.count("<path ") >= 3
    assert dom.count("<circle ") == 2
    assert "Nothing to show." in dom
    assert "<b>" not in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize(("act", "count"), [
    ("document.querySelector('input[value=two]').click()", "2 images, 4 detections and missed objects shown."),
    ("document.querySelector('input[value=missed]').click()", "2 images, 5 detections and missed objects shown."),
    ("document.querySelector('input[value=Loc]').click()", "2 images, 7 detections and missed objects shown."),
    ("const s = document.querySelectorAll('select'), f = s[s.length - 1]; f.value = 'k'; f.dispatchEvent(new Event('change'))",
     "2 images, 6 detections and missed objects shown."),
    ("for (const n of ['two', 'missed', 'ignored']) document.querySelector(`input[value=${n}]`).click();"
     "[...document.querySelectorAll('input[type=checkbox]')].pop().click()",
     "1 images, 2 detections and missed objects shown."),
    ("const r = document.querySelector('input[type=range]'); r.value = 1; r.dispatchEvent(new Event('input'))",
     "2 images, 6 detections and missed objects shown."),
])
def test_filters_in_a_browser(tmp_path, act, count):
    path = tmp_path / "report.html"
    path.write_text(whole_page().replace("</body>", f"<script>{act}</script></body>"), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    assert count in dom


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
def test_trace_in_a_browser(tmp_path):
    detection = {"class": HOSTILE, "score": 0.9, "region": 1, "before": [0, 0, 5, 5], "box": [1, 1, 6, 6], "moved_iou": 0.5,
                 "scores": [0.9, None], "removed": [{"box": [1, 1, 5, 5], "region": 0, "iou": 0.64, "score": 0.1}]}
    data = {"width": 120, "height": 80, "source": page.data_uri(image(), 64), "classes": [HOSTILE, "k"], "detections": [detection],
            "counts": {"regions": 2, "nms": 1}, "regions": [[1, 1, 5, 5], [0, 0, 5, 5]]}
    path = tmp_path / "trace.html"
    path.write_text(page_trace.page("m: i.jpg", data), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    assert "Boxes that it suppressed in NMS: 1" in dom
    assert "regions: 2  →  nms: 1" in dom
    assert "Region 2 of 2" in dom
    assert "<b>" not in dom


def test_images_are_embedded_no_larger_than_asked():
    uri = page.data_uri(image(400, 100), 200)
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (50, 200, 3)
    assert page.data_uri(image(40, 10), 200) == page.data_uri(image(40, 10), 40)


def test_gallery_takes_the_best_and_spreads_the_images():
    images, objects, detections = random_tables(3, images=9)
    inputs = Inputs.of(images, objects, detections, ["a", "b", "c"])
    for name in inputs.images:
        one = gallery.describe({"m": classify(inputs)}, name, 3)
        scores = [row[5] for row in one["detections"]["m"]]
        best = sorted(detections.loc[detections["image_id"] == name, "score"], reverse=True)[:3]
        assert scores == pytest.approx(best)
        assert len(one["objects"]) == len(one["fates"]["m"]) == (inputs.objects.image == inputs.images.index(name)).sum()
    assert gallery.spread(inputs.images, 3) == [inputs.images[place] for place in (0, 4, 8)]
    assert gallery.spread(inputs.images, 100) == inputs.images
    assert gallery.spread([], 3) == []


def method(name, area):
    found = errors_of(("i.jpg", "k", SQUARE, 0.8))
    metrics = {"voc07_map": 0.5, "voc10_map": area, "coco_map": None, "coco_map50": 0.4, "images": 2, "objects": 2}
    classes = [{"class": "k", "objects": 1, "voc10_ap": area}]
    return summary.Method(name, metrics, {"decode": 1.0, "trunk": 2.5}, 61.0, 2**20, classes, missed_rows(found), effects(found))


def test_tables_of_the_report():
    interval = bootstrap.Interval(0.6, 0.5, 0.7, 1.0)
    pairs = [bootstrap.Pair("rcnn", "fast", bootstrap.Interval(-0.2, -0.3, -0.1, 0.0))]
    found = summary.tables([method("rcnn", 0.6), method("fast", 0.8)], {"rcnn": interval}, pairs,
                           {"p1": {"recall_50": 0.9, "recall_70": 0.8, "abo": 0.7, "boxes_per_image": 300.0}}, "voc10_map", 0.95)
    text = {table.title: table.markdown() for table in found}
    assert "| rcnn | 0.500 | 0.600 | 0.500 to 0.700 | – | 0.400 | 3.500 | 61.0 | 1.000 |" in text["All methods"]
    assert "Highest voc10 mAP here: fast" in text["All methods"]
    assert "| rcnn − fast | -0.200 | -0.300 to -0.100 | 0.000 | yes |" in text["Statistical significance"]
    assert "| k | 1 | 0.600 | 0.800 |" in text["By class"]
    assert "| p1 | 0.900 | 0.800 | 0.700 | 300.0 |" in text["Proposals"]
    assert "| rcnn | AlexNet | 58.5 | 9.800 | 22.0 |" in text["Published results"]
    assert "fast_svd" not in text["Published results"]


def test_what_was_not_measured_is_said():
    one = method("rcnn", 0.6)
    one = summary.Method(**{**vars(one), "parts": {"proposals": None, "network": 4.0}})
    assert one.milliseconds == 4.0
    text = summary.tables([one], {}, [], {}, "voc10_map", 0.95)[0].markdown()
    assert "Without the proposals, which came from a cache: rcnn" in text


def test_cells():
    assert [summary.shown(cell) for cell in (None, 3, 0.12345, 12.34, 1234.5, "x")] == ["–", "3", "0.123", "12.3", "1,234", "x"]
    assert "| a\\|b | 1 |" in summary.Table("t", ["x", "y"], [["a|b", 1]]).markdown()


def test_losses_are_averaged_in_pieces():
    rows = [{"iteration": k, "classification": float(k)} for k in range(200)]
    chart = collect._losses({"fast": rows})["Loss of fast"]
    line = chart["series"]["classification"]
    assert len(line) == 50
    assert line[0] == [2, 1.5]
