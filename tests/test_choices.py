"""No value is chosen on test: each that departs from its paper has a row in docs/departures.md, with a figure on val or
the mark that it has not been tried yet. The papers' values are those of the preset that holds them.
"""

import json
import re
from pathlib import Path

import pytest

from lib.stage import overlay, params

PAPERS = "voc2007-alexnet"  # the papers' numbers, checked against docs/fidelity.md by tests/stage/test_overlay.py
OWN = {"yolo": "voc0712-yolo", "ssd": "voc0712-ssd300", "retinanet": "coco-retinanet"}  # block -> preset as published
UNTRIED = "not yet tried on val"
MOST_UNTRIED = 283  # may only fall: a new departure comes with its trial
# Blocks of the methods; in them, what changes no result, or decides how much memory a pass takes.
BLOCKS = ("proposals.selective_search", "m0", "hog", "rcnn", "spp", "fast", "fast_svd", "fast_svm", "faster",
          "faster_joint", *OWN)
TECHNICAL = re.compile(r"\.(parts|checkpoint_every|shard_mib|precision)$|\.(extract|detect)\.batch$|\.weights$")
ROWS = {"proposals": "rcnn", "m0": "faster_joint"}  # block -> row that measures it, where not of its name


def papers(name):
    """Whether a preset holds the papers' own values."""
    return any(path.stem == PAPERS for path, _ in overlay._chain(name, overlay.FOLDER))


PRESETS = [name for name in overlay.names() if not papers(name)]


def departures(name):
    """Dotted key -> value and the paper's, of what a preset sets itself; of the default, of everything."""
    papers_of = {block: overlay.values(OWN.get(block, PAPERS)) for block in BLOCKS}
    values = overlay.values(name)
    leaves = {} if name == overlay.DEFAULT else overlay.read(overlay.FOLDER / f"{name}.yaml", overlay.Preset).set
    departing = {}
    for key in leaves or (params.leaves(values) if name == overlay.DEFAULT else {}):
        above = key.rpartition(".")[0]
        shape = above if "name" in (overlay.at(values, above) if above else {}) else key  # a shape is one value
        block = next((block for block in BLOCKS if key.startswith(f"{block}.")), None)
        if block and not TECHNICAL.search(key):
            value, theirs = overlay.at(values, shape), at_any(papers_of[block], shape)
            if value != theirs:
                departing[shape] = value, theirs
    return departing


def at_any(values, key):
    """The value of a key, or None where a shape of another name has no such key."""
    try:
        return overlay.at(values, key)
    except KeyError:
        return None


def text(value):
    """A value as it stands in params.yaml."""
    return json.dumps(value).replace('"', "")


def line(name, key, value, theirs):
    """The row of a value that nothing was tried for yet."""
    row = ROWS.get(key.split(".")[0], key.split(".")[0])
    preset = "digits" if name == overlay.DEFAULT else name
    command = f"python -m tools.choose {preset} {row} '{key}={text(theirs)}'"
    return f"| {name} | `{key}` | {text(value)} | {text(theirs)} | {UNTRIED} | `{command}` |"


def table():
    """(preset, key) -> value, paper's, figure, command."""
    rows, text_of_all = {}, Path("docs/departures.md").read_text()
    for row in re.findall(r"^\| ([\w-]+) \| `([\w.]+)` \|(.*)\|$", text_of_all, re.MULTILINE):
        cells = [cell.strip() for cell in row[2].split(" | ")]
        assert row[:2] not in rows, f"two rows of {row[:2]}"
        rows[row[:2]] = cells
    return rows


@pytest.mark.parametrize("name", PRESETS)
def test_every_departure_has_its_row(name):
    """Fails with the rows to paste; with a trial's figure in place of the mark where there is one."""
    rows, missing = table(), []
    for key, (value, theirs) in departures(name).items():
        cells = rows.get((name, key), [None])
        if cells[0] != text(value) or cells[1] != text(theirs):
            missing.append(line(name, key, value, theirs))
    assert not missing, "docs/departures.md lacks, or has with another value,\n" + "\n".join(missing)


@pytest.mark.parametrize("name", PRESETS)
def test_no_row_is_left_of_what_departs_no_longer(name):
    left = {key for preset, key in table() if preset == name} - departures(name).keys()
    assert not left, f"docs/departures.md: {name} does not depart in {sorted(left)}"


def test_a_row_has_a_figure_on_val_or_the_mark_and_the_command():
    for where, (_, _, figure, command) in table().items():
        assert figure == UNTRIED or re.match(r"\.\d{3}", figure), f"{where}: {figure}"
        assert command.startswith("`python -m tools.choose "), where


def test_fewer_and_fewer_are_untried():
    untried = sum(cells[2] == UNTRIED for cells in table().values())
    assert untried == MOST_UNTRIED, f"{untried} rows are {UNTRIED}: lower MOST_UNTRIED to it; it may never rise"


# What the papers' presets have otherwise than the brackets of params.yaml say, and why.
NOT_THE_PAPERS = {
    "proposals.selective_search.seed": "the authors' is unseeded",
    "hog.svm.per_image": "memory", "rcnn.svm.max_negatives": "memory", "spp.svm.max_negatives": "memory",
    "fast_svm.svm.max_negatives": "memory",
    "spp.pretrain.frozen": "M0 brings ImageNet", "spp.window.slack": "the code's",
    "yolo.detect.per_image": "a class has 98 boxes",
    "faster.detect.per_set": "Python's has none", "retinanet.detect.per_image": "five levels have 1,000 each",
}
PLAIN = re.compile(r"(?:[A-Za-z0-9]+ )?(none|no limit|null|true|false|-?[\d.]+)( %)?")


def brackets():
    """Dotted key -> the plain values in the brackets of its line of params.yaml, where each alternative is plain."""
    place: list[str] = []
    found = {}
    for row in Path("params.yaml").read_text().splitlines():
        if key := re.match(r"( *)(\w+):", row):
            place = [*place[: len(key[1]) // 2], key[2]]
        if key and (bracket := re.search(r"# .*\[([^\[\]]+)\]\s*$", row)):
            parts = [part.strip() for part in re.split(r"[;,]", bracket[1]) if "§" not in part]
            matches = [PLAIN.fullmatch(part) for part in parts]
            if matches and all(matches):
                found[".".join(place)] = [plain(match[1], match[2]) for match in matches]
    return found


def plain(word, per_cent):
    if word in ("none", "no limit", "null"):
        return None
    return word == "true" if word in ("true", "false") else float(word) / (100 if per_cent else 1)


def test_presets_as_published_have_the_values_in_brackets():
    """A default that is chosen anew must not reach them unseen."""
    known = brackets()
    assert len(known) > 250
    assert known["rcnn.finetune.foreground"] == [0.5]
    wrong = {}
    for key, papers_values in known.items():
        preset = OWN.get(key.split(".")[0], PAPERS)
        value = overlay.at(overlay.values(preset), key)
        first = value[0] if isinstance(value, list) and value else value
        if key not in NOT_THE_PAPERS and not isinstance(first, (dict, list, str)) and first not in papers_values:
            wrong[f"{preset}: {key}"] = value, papers_values
    assert not wrong


def test_rows_are_of_presets():
    assert {preset for preset, _ in table()} <= set(PRESETS)


def test_a_departure_without_a_row_is_refused(monkeypatch):
    """The rule itself: another learning rate than the paper's and than docs/departures.md has."""
    changed = overlay.apply(overlay.values("default"), {"fast.train.learning_rate": 0.123}, "x")
    kept = overlay.values
    monkeypatch.setattr(overlay, "values", lambda name: changed if name == "default" else kept(name))
    with pytest.raises(AssertionError, match=r"`fast.train.learning_rate` \| 0.123 \| 0.001 \| not yet tried on val"):
        test_every_departure_has_its_row("default")
