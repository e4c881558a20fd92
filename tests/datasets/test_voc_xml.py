"""One VOC annotation: every spelling met in the wild, with its exact boxes or its fault."""

import re

import pytest

from lib.boxes import boxes
from lib.datasets.records import LENIENT, Record
from lib.datasets.voc_xml import parse


def read(text, origin=1):
    record = Record("a.jpg", "a.xml")
    named = parse(text if isinstance(text, bytes) else text.encode(), "Annotations/a.xml", record, origin)
    return record, named


def kinds(record):
    return [fault.kind for fault in record.faults]


def test_case_1_devkit_corners(annotation, obj):
    record, _ = read(annotation(obj(corners=(1, 1, 500, 375)), size=(500, 375)))
    assert record.items[0].box == (0, 0, 500, 375)
    assert record.size == (500, 375)
    assert not record.faults


@pytest.mark.parametrize(("origin", "box"), [(1, (-1, -1, 10, 10)), (0, (0, 0, 11, 11)), ("half-open", (0, 0, 10, 10))])
def test_case_2_origin(annotation, obj, origin, box):
    assert read(annotation(obj(corners=(0, 0, 10, 10))), origin)[0].items[0].box == box


def test_case_2_export_and_import_give_the_same(annotation, obj):
    box = (12.25, 0, 99.5, 80)
    corners = boxes.to_voc([box])[0].tolist()
    assert read(annotation(obj(corners=corners)))[0].items[0].box == box


def test_case_5_one_pixel_is_legal(annotation, obj):
    assert read(annotation(obj(corners=(181, 329, 181, 329))))[0].items[0].box == (180, 328, 181, 329)


@pytest.mark.parametrize(
    ("corners", "message"),
    [((40, 1, 10, 50), "xmax 10 is left of xmin 40"), ((1, 50, 10, 49.5), "ymax 49.5 is above ymin 50")],
)
def test_case_5_inverted(annotation, obj, corners, message):
    record, _ = read(annotation(obj(), obj(corners=corners), obj()))
    assert kinds(record) == ["inverted box"]
    assert str(record.faults[0]).startswith(f"Annotations/a.xml, object 1 (dog): {message}.")
    assert [item.number for item in record.items] == [0, 2]


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.0", 12), ("45.70000076293945", 45.70000076293945), (" 12 ", 12), ("1e2", 100), ("11.9", 11.9), ("+3", 3)],
)
def test_case_7_decimals(annotation, obj, text, value):
    record, _ = read(annotation(obj(corners=(1, 1, 1000, text))))
    assert record.items[0].box[3] == pytest.approx(value, rel=1e-7)
    assert not record.faults


@pytest.mark.parametrize("text", ["12,5", "", "1_0", "0x10", "(3, 4)", "１２", "twelve"])
def test_case_7_no_number(annotation, obj, text):
    record, _ = read(annotation(obj(corners=(1, 1, 1000, text)), obj()))
    assert kinds(record) == ["not a number"]
    assert f"object 0 (dog): ymax is {text!r}" in str(record.faults[0])
    assert len(record.items) == 1


@pytest.mark.parametrize("text", ["NaN", "nan", "inf", "-Infinity", "1e999"])
def test_case_8_not_finite(annotation, obj, text):
    record, _ = read(annotation(obj(corners=(text, 1, 10, 10))))
    assert kinds(record) == ["non-finite number"]
    assert f"xmin is {text}" in str(record.faults[0])
    assert "non-finite number" not in LENIENT


@pytest.mark.parametrize(
    ("extra", "difficult"),
    [("", False), ("<difficult/>", False), ("<difficult> </difficult>", False), ("<difficult>0</difficult>", False),
     ("<difficult>1</difficult>", True), ("<difficult> 1\n</difficult>", True), ("<Difficult>1</Difficult>", True)],
)  # fmt: skip
def test_case_9_difficult(annotation, obj, extra, difficult):
    record, _ = read(annotation(obj(extra=extra)))
    assert record.items[0].difficult is difficult
    assert not record.items[0].truncated
    assert not record.faults


def test_case_9_other_text(annotation, obj):
    record, _ = read(annotation(obj(extra="<difficult>Unspecified</difficult><truncated>1</truncated>")))
    assert kinds(record) == ["not a flag"]
    assert "<difficult> is 'Unspecified'" in str(record.faults[0])
    assert record.items[0].truncated
    assert not record.items[0].difficult


def test_case_10_order_of_tags(annotation):
    box = "<bndbox><xmin>31</xmin><xmax>415</xmax><ymin>92</ymin><ymax>345</ymax></bndbox>"
    record, _ = read(annotation(f"<object>{box}<occluded>1</occluded><name>dog</name></object>"))
    assert record.items[0].box == (30, 91, 415, 345)


def test_box_of_a_part_is_not_the_objects(annotation, obj):
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    record, _ = read(annotation(obj(extra=part)))
    assert [item.box for item in record.items] == [(10, 20, 40, 50)]
    assert not record.faults


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [("<object><name>dog</name></object>", "object without box", "lacks xmin, ymin, xmax, ymax"),
     ("<object><name>dog</name><bndbox><xmin>1</xmin><xmax>2</xmax><ymax>2</ymax></bndbox></object>",
      "object without box", "lacks ymin"),
     ("<object><name/></object>", "object without class", "missing or empty"),
     ("<object><name> </name></object>", "object without class", "object 0: ")],
)  # fmt: skip
def test_incomplete_object(annotation, text, kind, message):
    record, _ = read(annotation(text))
    assert kinds(record) == [kind]
    assert message in str(record.faults[0])
    assert not record.items


@pytest.mark.parametrize(
    "size",
    [
        "",
        "<size><width>9</width></size>",
        "<size><width>0</width><height>0</height></size>",
        "<size><width>nan</width><height>5</height></size>",
    ],
)
def test_case_12_size_missing(size):
    record, _ = read(f"<annotation>{size}</annotation>")
    assert record.size is None
    assert record.readable
    assert not record.faults


@pytest.mark.parametrize(
    ("name", "expected"),
    [(" Raccoon ", "Raccoon"), ("raccoon", "raccoon"), ("traffic light", "traffic light"), ("Cafe\u0301", "Café")],
)
def test_case_14_names(annotation, obj, name, expected):
    assert read(annotation(obj(name=name)))[0].items[0].name == expected


XML = '<?xml version="1.0"{}?>\n<annotation><object><name>{}</name>{}</object></annotation>'
BOX = "<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>50</ymax></bndbox>"


def declared(encoding, name="猫", codec=None):
    return XML.format(f' encoding="{encoding}"', name, BOX).encode(codec or encoding)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xef\xbb\xbf" + declared("utf-8"), "猫"),
        (declared("UTF-16"), "猫"),
        (declared("utf-16", codec="utf-16-le"), "猫"),
        (declared("gb2312"), "猫"),
        (declared("shift_jis", "犬"), "犬"),
        (declared("ISO-8859-1", "Café"), "Café"),
        (XML.format("", "Café", BOX).encode(), "Café"),
        (declared("utf-8", "a").replace(b"<annotation>", b'<annotation xmlns="http://x/y">'), "a"),
        (declared("utf-8", "a").replace(b"<annotation>", b"<!-- <object> --><annotation><!-- x -->"), "a"),
    ],
)
def test_case_23_well_formed_is_read(data, name):
    record, _ = read(data)
    assert [(item.name, item.box) for item in record.items] == [(name, (10, 20, 40, 50))]
    assert not record.faults


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\n" + declared("utf-8"), "does not parse"),
        (b"<annotation><object><name>a & b</name></object></annotation>", "does not parse"),
        (b"", "empty"),
        (b" \n", "empty"),
        (XML.format("", "狗", BOX).encode("gbk"), "no valid utf-8: declare the encoding"),
        (declared("utf-8", "狗", "gbk"), "no valid utf-8"),
        (declared("klingon", "a", "ascii"), "klingon"),
        (BOMB.encode(), "entities"),
        (b"<project><component/></project>", "root is <project>"),
        (b"\xff\xd8\xff\xe0 a jpeg", ""),
        (b"{}", "does not parse"),
    ],
)
def test_case_23_the_rest_is_named(data, message):
    record, _ = read(data)
    assert kinds(record) == ["unreadable annotation"]
    assert re.match(f"Annotations/a.xml: .*{re.escape(message)}", str(record.faults[0]))
    assert not record.readable
    assert not record.items


def test_case_23_gbk_that_happens_to_be_utf_8_is_noted():
    data = XML.format("", "猫", BOX).encode("gbk")
    record, _ = read(data)
    assert record.items[0].name == "è"
    assert "'è' could be '猫'" in str(record.notes[0])
    assert not read(declared("utf-8", "è"))[0].notes


def test_filename_is_only_handed_on(annotation):
    assert read(annotation(filename=r"C:\pics\1.jpg"))[1] == r"C:\pics\1.jpg"
    assert read("<annotation/>")[1] is None
