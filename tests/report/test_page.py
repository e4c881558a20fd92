"""The report page: its images, and all of it in a real browser, where one is installed."""

import base64
import json
import re

import cv2
import numpy as np
import pytest

from lib.evaluation.errors import effects, shares
from lib.report import gallery, page, summary
from tests.report.browser import HOSTILE, SQUARE, browse, errors_of, image, in_browser


def whole_page():
    errors = {
        "one": errors_of(("i.jpg", HOSTILE, SQUARE, 0.9), ("i.jpg", "k", SQUARE, 0.8), ("j.jpg", "k", SQUARE, 0.7)),
        "two": errors_of(("i.jpg", "k", (70, 10, 85, 60), 0.9), ("i.jpg", "k", (0, 70, 9, 79), 0.1)),
    }
    images = [
        {**gallery.describe(errors, name, 10), "width": 120, "height": 80, "source": page.data_uri(image(), 64)}
        for name in ("i.jpg", "j.jpg")
    ]
    curve = {label: {name: [[0, 1], [1, 0.5]] for name in errors} for label in ("all classes", HOSTILE, "k")}
    data = {
        "methods": list(errors), "classes": [HOSTILE, "k"], "precision_recall": curve, "top": [1, 25], "best": 10,
        "errors": {name: shares(method, [1, 25]) for name, method in errors.items()},
        "effects": {name: effects(method) for name, method in errors.items()},
        "curves": {
            "dots": {
                "x": "ms", "y": "mAP", "log": True, "dots": True,
                "series": {"one": [[20.0, 0.5]], "two": [[900.0, 0.7]]},
            },
            "lines": {"x": "iou", "y": "recall", "unit": True, "series": {"p1": [[0.5, 1.0], [1.0, None]]}},
            "nothing": {"x": "x", "y": "y", "series": {}},
        },
        "images": images,
    }
    table = summary.Table("T", ["a", HOSTILE], [[HOSTILE, 0.5], ["x", None]], "note")
    return page.page("Title <1>", "intro", [table], data)


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


@in_browser
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


@in_browser
@pytest.mark.parametrize(("act", "count"), [
    ("document.querySelector('input[value=two]').click()", "2 images, 4 detections and missed objects shown."),
    ("document.querySelector('input[value=missed]').click()", "2 images, 5 detections and missed objects shown."),
    ("document.querySelector('input[value=Loc]').click()", "2 images, 7 detections and missed objects shown."),
    ("const s = document.querySelectorAll('select'), f = s[s.length - 1];"
     "f.value = 'k'; f.dispatchEvent(new Event('change'))",
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


def test_images_are_embedded_no_larger_than_the_limit():
    uri = page.data_uri(image(400, 100), 200)
    data = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    assert cv2.imdecode(np.frombuffer(data, np.uint8), 1).shape == (50, 200, 3)
    assert page.data_uri(image(40, 10), 200) == page.data_uri(image(40, 10), 40)


def test_what_the_networks_look_at_is_in_the_page(tmp_path):
    """The pictures as data URIs, folded by method; a hostile name is text."""
    for name in ("boxes/00_0.png", "units/000.png", "filters.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), image())
    (tmp_path / "boxes/00.json").write_text("{}")
    html = page.looked_at({HOSTILE: tmp_path})
    assert html.count("<details>") == 3
    assert html.count("data:image/jpeg;base64,") == 3
    assert "<script" not in html
    assert html in page.page("t", "i", [], {}, html)
