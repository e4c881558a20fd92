"""The papers' figures as rows: every line of a method that has any, in the order of the methods."""

from lib.report.published import PUBLISHED, rows


def test_rows_follow_the_methods_and_skip_those_of_no_paper():
    table = rows(["faster", "own", "rcnn"])
    assert [row["method"] for row in table] == ["faster"] * 2 + ["rcnn"] * 2
    assert table[-1] == {"method": "rcnn", "network": "VGG16", "voc07_map": 66.0, "seconds": 47.0, "hours": 84.0,
                         "source": "R-CNN, table 3; times: Fast R-CNN, table 4"}


def test_every_line_is_a_percentage_with_its_table():
    for lines in PUBLISHED.values():
        assert all(30 < line.voc07_map < 85 and "table" in line.source for line in lines)
