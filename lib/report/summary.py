"""The comparison of all methods as tables, which the report writes as Markdown and as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from lib.report import hierarchical
from lib.report.bootstrap import Interval, Pair
from lib.report.published import rows as published_rows

Cell = str | float | int | None


@dataclass(frozen=True)
class Table:
    """title, column names, rows of cells, and a note on how to read it; None is a dash, numbers are right-aligned."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""

    def markdown(self) -> str:
        """As a Markdown section."""
        right = [any(isinstance(row[k], int | float) for row in self.rows) for k in range(len(self.columns))]
        lines = [_line(self.columns), _line(["---:" if side else "---" for side in right])]
        lines += [_line([shown(cell) for cell in row]) for row in self.rows]
        return "\n".join([f"## {self.title}", "", *([self.note, ""] if self.note else []), *lines, ""])

    def html(self) -> str:
        """As an HTML table; all text is escaped."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in self.columns)
        body = "".join(f"<tr>{''.join(_cell(cell) for cell in row)}</tr>" for row in self.rows)
        note = f'<p class="note">{escape(self.note)}</p>' if self.note else ""
        table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        return f"<section><h2>{escape(self.title)}</h2>{note}{table}</section>"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _cell(cell: Cell) -> str:
    return f"<td{' class=n' if isinstance(cell, int | float) or cell is None else ''}>{escape(shown(cell))}</td>"


def shown(cell: Cell) -> str:
    """A cell as text: three decimals below 10, fewer above; a dash for None."""
    if cell is None:
        return "–"
    if isinstance(cell, float):
        return f"{cell:.3f}" if abs(cell) < 10 else f"{cell:,.1f}" if abs(cell) < 1000 else f"{cell:,.0f}"
    return str(cell)


@dataclass(frozen=True)
class Method:
    """What the other stages wrote of one method.

    metrics       : of results/metrics;  parts : milliseconds per image by part, None where not measured
    training      : seconds of all stages that made its models
    size          : bytes of the models that detection reads
    classes       : rows of results/plots/classes
    missed        : rows of results/plots/missed;  effects : rows of results/plots/error_effects
    repeated      : figure -> mean, std, n and runs of several seeds (`seeds.summary`); empty where there is one run
    """

    name: str
    metrics: Mapping[str, Any]
    parts: Mapping[str, float | None]
    training: float | None
    size: int
    classes: Sequence[Mapping[str, Any]]
    missed: Sequence[Mapping[str, Any]]
    effects: Sequence[Mapping[str, Any]]
    repeated: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def figure(self, name: str) -> tuple[float | None, Cell]:
        """A metric and its cell: of the run at hand, or mean ± standard deviation over at least three seeds."""
        of_seeds = self.repeated.get(name, {"n": 0})
        if of_seeds["n"] < hierarchical.LEAST:
            return self.metrics[name], self.metrics[name]
        return of_seeds["mean"], f"{of_seeds['mean']:.3f} ± {of_seeds['std']:.3f}"

    @property
    def milliseconds(self) -> float | None:
        """Per image, all parts that were measured; None if none was."""
        known = [value for value in self.parts.values() if value is not None]
        return sum(known) if known else None


def tables(
    methods: Sequence[Method], alone: Mapping[str, Interval], pairs: Sequence[Pair],
    proposals: Mapping[str, Mapping[str, Any]], measure: str, level: float,
) -> list[Table]:
    """Every table of the report, in its order."""
    names = [method.name for method in methods]
    return [
        _overview(methods, alone, measure, level),
        _pairs(pairs, measure, level),
        _classes(methods),
        _speed(methods),
        _effects(methods),
        _missed(methods),
        _proposals(proposals),
        Table("Published results", ["method", "network", "VOC2007 mAP, %", "s per image", "training, h", "source"],
              [list(row.values()) for row in published_rows(names)],
              "For orientation: VOC2007 test, trained on VOC2007 trainval, on GPUs of their time (K40; R-CNN's times "
              "as the Fast R-CNN paper measured them, SPPnet's from its authors). Other images than ours: "
              "compare the order, not the numbers."),
    ]


def _overview(methods: Sequence[Method], alone: Mapping[str, Interval], measure: str, level: float) -> Table:
    columns = ["method", "voc07 mAP", "voc10 mAP", f"{level:.0%} confidence interval", "COCO mAP", "COCO mAP50",
               "ms per image", "training, s", "models, MiB"]
    rows: list[list[Cell]] = [
        [method.name, method.figure("voc07_map")[1], method.figure("voc10_map")[1], spread(alone.get(method.name)),
         method.figure("coco_map")[1], method.figure("coco_map50")[1], method.milliseconds, method.training,
         method.size / 2**20]
        for method in methods
    ]
    areas = {method.name: method.figure("voc10_map")[0] for method in methods}
    known = {name: area for name, area in areas.items() if area is not None}
    best = max(known, key=lambda name: known[name]) if known else "none"
    counts = {method.repeated[measure]["n"] for method in methods if measure in method.repeated}
    seeds = (
        f" With ±: mean and standard deviation of trainings with {' to '.join(map(str, sorted(counts)))} seeds; their "
        "interval is of seeds and test images together, every other column of the run at hand."
        if counts and max(counts) >= hierarchical.LEAST else ""
    )
    first = methods[0].metrics if methods else {}
    without_some = [method.name for method in methods if None in method.parts.values()]
    unmeasured = f" Without the proposals, which came from a cache: {', '.join(without_some)}." if without_some else ""
    return Table(
        "All methods", columns, rows,
        f"{first.get('images')} test images with {first.get('objects')} objects. Highest voc10 mAP here: {best}. The "
        f"interval is that of {measure}, by bootstrap over the test images.{seeds} Milliseconds are of one thread; "
        f"training is the time of all stages between the proposals and the models.{unmeasured}",
    )


def spread(interval: Interval | None) -> str:
    """`low to high`, or a dash."""
    if interval is None or interval.low is None:
        return "–"
    return f"{shown(interval.low)} to {shown(interval.high)}"


def _pairs(pairs: Sequence[Pair], measure: str, level: float) -> Table:
    rows: list[list[Cell]] = [
        [f"{pair.first} − {pair.second}", pair.difference.value, spread(pair.difference), pair.difference.above,
         pair.runs, "yes" if pair.significant else "no"]
        for pair in pairs
    ]
    certain = sum(pair.significant for pair in pairs)
    return Table(
        "Statistical significance",
        ["pair", f"difference of {measure}", f"{level:.0%} confidence interval", "share of resamples above 0", "seeds",
         "significant"], rows,
        f"{certain} of {len(pairs)} pairs are significant: the interval excludes 0, not corrected for the number of "
        "pairs. Paired bootstrap: the test images are resampled with replacement, the same resamples for both methods. "
        "Of several seeds it is the mean difference, and seeds and images are drawn together; of one it accounts for "
        "the choice of test images, not for the seed of the training.",
    )


def _classes(methods: Sequence[Method]) -> Table:
    names = [str(row["class"]) for row in methods[0].classes] if methods else []
    values = [{row["class"]: row for row in method.classes} for method in methods]
    rows: list[list[Cell]] = [
        [name, values[0].get(name, {}).get("objects"), *(value.get(name, {}).get("voc10_ap") for value in values)]
        for name in names
    ]
    columns = ["class", "objects", *(method.name for method in methods)]
    return Table("By class", columns, rows, "voc10 average precision.")


def _speed(methods: Sequence[Method]) -> Table:
    parts = list(dict.fromkeys(part for method in methods for part in method.parts))
    rows: list[list[Cell]] = [
        [method.name, *(method.parts.get(part) for part in parts), method.milliseconds] for method in methods
    ]
    return Table("Milliseconds per image, by part", ["method", *parts, "all"], rows,
                 "Of one thread; parts that run side by side count in full. A dash: no such part, or taken from a "
                 "cache.")


def _effects(methods: Sequence[Method]) -> Table:
    kinds = ("Loc", "Sim", "Oth", "BG", "missed")
    rows: list[list[Cell]] = []
    for method in methods:
        total = {row["kind"]: row for row in method.effects if row["class"] == "all classes"}
        rows.append([method.name, *(total.get(kind, {}).get("gain") for kind in kinds),
                     *(total.get(kind, {}).get("count") for kind in kinds)])
    return Table(
        "Gain from fixing one kind of error",
        ["method", *(f"+{kind}" for kind in kinds), *(f"{kind}, number" for kind in kinds)], rows,
        "Gain in voc10 mAP if poorly localized boxes were right and duplicates removed (Loc), if confusions with "
        "similar (Sim) or other classes (Oth) or background (BG) were removed, if missed objects were not counted. "
        "Each alone: the gains do not add up.",
    )


def _missed(methods: Sequence[Method]) -> Table:
    fates = ("objects", "found", "loose", "confused", "unseen")
    rows: list[list[Cell]] = [
        [method.name, *(method.missed[-1].get(fate) if method.missed else None for fate in fates)] for method in methods
    ]
    return Table("Detected and missed objects", ["method", *fates], rows,
                 "Missed objects: loose, a box of its class overlaps it; confused, a box of another class matches it; "
                 "else unseen.")


def _proposals(proposals: Mapping[str, Mapping[str, Any]]) -> Table:
    keys = ("recall_50", "recall_70", "abo", "boxes_per_image")
    rows: list[list[Cell]] = [[name, *(values.get(key) for key in keys)] for name, values in proposals.items()]
    columns = ["proposals", "recall at IoU threshold 0.5", "at 0.7", "average best overlap", "boxes per image"]
    return Table("Proposals", columns, rows)
