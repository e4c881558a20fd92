"""The comparison of all methods: `results/report.md`, and `results/report.html`, one file that opens from disk.

Reads what the other stages wrote: detections, metrics, plots, times and models; the methods are the rows
of `evaluate` that have run: all of them by `dvc repro report`, those that are there by
`dvc repro --single-item report`. Runs with other seeds come from `results/seeds`, where the run at hand is one of them.
Writes tables, paired bootstrap intervals, curves, errors, and test images under every method.
"""

from lib.evaluation import errors, inputs
from lib.evaluation.settings import Evaluate, Report
from lib.images.image_set import ImageSet, Splits
from lib.report import bootstrap, collect, experiments, gallery, page, seeds, summary
from lib.report.outcomes import Outcomes
from lib.stage import pipeline
from lib.stage.run import Life
from lib.storage import tables
from stages.schemas import stage

PARAMS = {"evaluate": Evaluate, "report": Report, "splits": Splits}


def main(life: Life) -> None:
    """See the module's docstring."""
    settings, scoring = life.params["report"], life.params["evaluate"]
    test = life.params["splits"].test
    folder = life.dep("data/tables")
    files = collect.Files(life.dep, pipeline.entries())
    rows = [name.removeprefix("evaluate@") for name in files.entries if name.startswith("evaluate@")]
    image_set = ImageSet(life.data_root, folder, test)
    names = [name for name in rows if collect.has_run(files, name, len(image_set))]
    left_out = [name for name in rows if name not in names]
    life.announce(f"{len(names)} of {len(rows)} methods, {settings.resamples} resamples")
    scored = {
        name: inputs.read(life.dep(f"data/detections/{name}.parquet"), folder / "objects.parquet", test)
        for name in names
    }
    classified = {
        name: errors.classify(method_inputs, scoring.similar, scoring.iou, scoring.background)
        for name, method_inputs in scored.items()
    }
    here = {name: Outcomes.of(method_inputs, scoring.iou) for name, method_inputs in scored.items()}
    repeated = seeds.of_these(life.dep("results/seeds"), here, scored[names[0]]) if names else {}
    intervals, pairs = bootstrap.compare(
        here, settings.resamples, settings.seed, settings.level, settings.measure, scoring.levels,
        {name: several.runs for name, several in repeated.items()},
    )
    methods = [collect.method(files, name, repeated.get(name)) for name in names]
    report_tables = summary.tables(methods, intervals, pairs, files.proposals(), settings.measure, settings.level)
    report_tables += collect.looked_at(files)
    if "results/experiments" in life.entry.deps:
        report_tables += [experiments.table(record) for record in files.folder("results/experiments").values()]
    images = []
    for image_id in life.progress(gallery.spread(image_set.ids, settings.images), settings.images, "image"):
        width, height = image_set.size(image_id)
        source = page.data_uri(image_set.image(image_id), settings.side)
        boxes = gallery.describe(classified, image_id, settings.boxes) if classified else {"id": image_id}
        images.append({**boxes, "width": width, "height": height, "source": source})
    folders = {name: life.dep(f"data/visualization/{name}") for name in files.rows("data/visualization")}
    seen = page.looked_at(folders)
    title, intro = "Comparison of the methods", collect.introduction(image_set, life.data_root, left_out)
    data = {**collect.charts(files, methods), "top": scoring.top, "best": settings.boxes, "images": images}
    text = "\n".join([f"# {title}", "", intro, "", *(table.markdown() for table in report_tables)])
    tables.write_text(life.out("results/report.md"), text)
    tables.write_text(life.out("results/report.html"), page.page(title, intro, report_tables, data, seen))


if __name__ == "__main__":
    stage(main, PARAMS)
