"""Every figure in the tables of README and docs/results.md is that of a committed results file, and every committed
figure of that kind is in one of them.
"""

import json
import re
from pathlib import Path

import pytest

from lib.report.hierarchical import LEAST
from lib.report.published import PUBLISHED

README = Path("README.md")
RESULTS = Path("results")


def tables():
    """First cell of the header -> (the header's cells, row name -> cells)."""
    headed = {}
    text = README.read_text() + Path("docs/results.md").read_text()
    for block in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.strip().split("\n")]
        assert header[0] not in headed, f"two tables of {header[0]}"
        names = [row[0] if header[0] != "benchmark" else f"{row[0]} {row[1]}" for row in rows]
        headed[header[0]] = header, dict(zip(names, rows, strict=True))
    return headed


def read(path):
    return json.loads(path.read_text())


def shown(value, like):
    """The value with as many decimals as the cell has."""
    return f"{value:.{len(like.partition('.')[2])}f}"


def milliseconds(path):
    return sum(value for value in read(path).values() if isinstance(value, int | float))


def mean_of(preset, metrics, method, key):
    """Mean ± standard deviation where there are three seeds, else the one run."""
    path = RESULTS / f"seeds/{preset}/{method}.json"
    figure = read(path)[key] if path.exists() else {"n": 0}
    if figure["n"] >= LEAST:
        return f"{figure['mean']:.3f} ± {figure['std']:.3f}"
    return f"{read(metrics / f'{method}.json')[key]:.3f}"


def in_the_paper(method):
    """VOC 2007 with VGG-16, as README quotes it."""
    lines = [line for line in PUBLISHED.get(method, []) if line.network.startswith("VGG16")]
    return f"{lines[0].voc07_map:.1f}" if lines else "–"


def test_readme_is_read_in_a_minute():
    text = README.read_text()
    assert len(text.splitlines()) <= 90
    assert all(len(line) <= 100 for line in text.splitlines())
    assert len(re.findall(r"^\|-", text, re.MULTILINE)) == 1, "one table; the others are in docs/results.md"


@pytest.mark.parametrize(("preset", "metrics", "speed"), [
    ("digits", RESULTS / "metrics", RESULTS / "speed"),
    ("voc2007-cpu", RESULTS / "presets/voc2007-cpu", RESULTS / "presets/voc2007-cpu/speed"),
    ("bccd", RESULTS / "presets/bccd", RESULTS / "presets/bccd/speed"),
])
def test_methods(preset, metrics, speed):
    """Fails with the lines to paste."""
    methods = sorted({path.stem for path in metrics.glob("*.json")} - {"rows"})
    header, rows = tables().get(f"{preset}: method", ([], {}))
    expected = []
    for method in methods:
        cells = [mean_of(preset, metrics, method, key) for key in ("voc07_map", "voc10_map", "coco_map")]
        paper = [in_the_paper(method)] if preset == "voc2007-cpu" else []
        expected.append([method, *cells, f"{milliseconds(speed / f'{method}.json'):.0f}", *paper])
    lines = "\n".join(f"| {' | '.join(row)} |" for row in expected)
    assert header[:5] in ([], [f"{preset}: method", "voc07_map", "voc10_map", "coco_map", "ms"])
    assert sorted(rows.values()) == expected, f"the table of {preset} should hold\n{lines}"


def test_proposals():
    header, rows = tables()["digits: proposals"]
    names = {path.stem for path in (RESULTS / "metrics/proposals").glob("*.json")}
    assert set(rows) == names
    for name, row in rows.items():
        figures = read(RESULTS / f"metrics/proposals/{name}.json")
        for key, cell in zip(header[1:], row[1:], strict=True):
            assert cell == shown(figures[key], cell), f"{name} {key}: {figures[key]}"


def test_benchmarks():
    _, rows = tables()["benchmark"]
    with_ratio = {path.stem for path in (RESULTS / "benchmarks").glob("*.json") if "ratio" in read(path)}
    assert {row[0] for row in rows.values()} >= with_ratio
    for name, key, cell in rows.values():
        value = read(RESULTS / f"benchmarks/{name}.json")[key]
        assert cell == shown(value, cell), f"{name} {key}: {value}"


def test_cost_of_voc():
    _, rows = tables()["voc2007"]
    result = read(RESULTS / "benchmarks/networks.json")
    assert list(rows) == ["rcnn", "spp", "fast", "faster"]
    for method, row in rows.items():
        for network, cells in (("alexnet", row[1:4]), ("vgg16", row[4:])):
            hours, size = result[network]["hours"][method], result[network]["gigabytes"][method]
            for value, cell in zip((hours["train"], hours["test"], size), cells, strict=True):
                assert cell == shown(value, cell), f"{network} {method}: {value}"


def test_hours_are_arithmetic_on_the_measured_speeds():
    """By hand, with a network that is twice as fast in the precision of tests.

    R-CNN: 70,000 batches of 128 crops at three passes, then 5,011 images of 2,000 regions forward. Faster R-CNN: its
    trunk is trained in m1 and m2, and frozen in m3 and m4.
    """
    from benchmarks.networks import gigabytes, hours

    train, test = {"crop": 3.6, "image": 36.0, "region": 0.36}, {"crop": 1.8, "image": 18.0, "region": 0.18}
    figures = hours("alexnet", {"train": train, "test": test})
    assert figures["rcnn"]["train"] == pytest.approx(26.88 + 5.011)
    assert figures["rcnn"]["test"] == pytest.approx(4.952)
    assert figures["faster"]["train"] == pytest.approx(4.8 + 1.6 + 80_000 * 3 * 128 * 0.36 / 3.6e6)
    assert figures["faster"]["test"] == pytest.approx(4952 * (18 + 300 * 0.18) / 3.6e6)
    stored = 157_345.4 + 40_000  # 1.57 % of 10,022,000 regions above the threshold, and the sample of the norm
    assert gigabytes("alexnet")["rcnn"] == pytest.approx((10_022_000 * 4096 + stored * 9216) * 2 / 1e9)
    result = read(RESULTS / "benchmarks/networks.json")
    for network in ("alexnet", "vgg16"):
        assert result[network]["hours"] == hours(network, result[network]["ms"])
        assert result[network]["gigabytes"] == gigabytes(network)
