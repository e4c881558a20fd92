"""The page of one traced image, in a real browser, where one is installed."""

from lib.report import page, page_trace
from tests.report.browser import HOSTILE, browse, image, in_browser


@in_browser
def test_trace_in_a_browser(tmp_path):
    detection = {
        "class": HOSTILE, "score": 0.9, "region": 1, "before": [0, 0, 5, 5], "box": [1, 1, 6, 6], "moved_iou": 0.5,
        "scores": [0.9, None], "removed": [{"box": [1, 1, 5, 5], "region": 0, "iou": 0.64, "score": 0.1}],
    }
    data = {
        "width": 120, "height": 80, "source": page.data_uri(image(), 64), "classes": [HOSTILE, "k"],
        "detections": [detection], "counts": {"regions": 2, "nms": 1}, "regions": [[1, 1, 5, 5], [0, 0, 5, 5]],
    }
    path = tmp_path / "trace.html"
    path.write_text(page_trace.page("m: i.jpg", data), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    assert "Boxes that it suppressed in NMS: 1" in dom
    assert "regions: 2  →  nms: 1" in dom
    assert "Region 2 of 2" in dom
    assert "<b>" not in dom
    data["detections"] = [{**detection, "level": 2}]  # of a method of several maps: its region is an anchor
    path.write_text(page_trace.page("m: i.jpg", data), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    assert "Anchor 2 of 2 that have a score, of level 3, 0 0 5 5." in dom
    data["detections"] = [{**detection, "cell": 23, "predictor": 1}]  # of a method of a grid
    path.write_text(page_trace.page("m: i.jpg", data), encoding="utf-8")
    dom, console = browse(path, tmp_path)
    assert console == []
    assert "Box 2 of 2 that have a score, of predictor 2 of cell 24, 0 0 5 5." in dom
