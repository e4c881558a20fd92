"""What the papers report, beside our figures for orientation: other images, other networks, other machines."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One line of a paper.

    voc07_map : on VOC2007 test, trained on VOC2007 trainval, per cent, 11 points
    seconds   : per test image on a GPU; without the proposals unless the method makes its own
    hours     : of training; None where not reported
    source    : table of the paper
    """

    network: str
    voc07_map: float
    seconds: float | None
    hours: float | None
    source: str


PUBLISHED: dict[str, list[Published]] = {
    "hog": [Published("none; DPM release 5, with parts", 33.7, None, None, "R-CNN, table 2")],
    "rcnn": [
        Published("AlexNet", 58.5, 9.8, 22.0, "R-CNN, table 2; times: Fast R-CNN, table 4"),
        Published("VGG16", 66.0, 47.0, 84.0, "R-CNN, table 3; times: Fast R-CNN, table 4"),
    ],
    "spp": [
        Published("ZF-5, five scales", 59.2, 0.382, None, "SPPnet, table 9; time of the features alone"),
        Published("VGG16, five scales", 63.1, 2.3, 25.0, "Fast R-CNN, tables 1 and 4; without difficult objects"),
    ],
    "fast": [
        Published("AlexNet", 57.1, 0.10, 1.2, "Fast R-CNN, table 4"),
        Published("VGG16", 66.9, 0.32, 9.5, "Fast R-CNN, table 4"),
    ],
    "fast_svd": [Published("VGG16", 66.6, 0.22, None, "Fast R-CNN, table 4")],
    "fast_svm": [Published("VGG16", 66.8, None, None, "Fast R-CNN, table 8")],
    "faster": [
        Published("ZF", 59.9, 0.059, None, "Faster R-CNN, tables 2 and 5"),
        Published("VGG16", 69.9, 0.198, None, "Faster R-CNN, tables 3 and 5"),
    ],
    "yolo": [
        Published("24 layers, with VOC2012", 63.4, 0.022, None, "YOLO, table 1"),
        Published("VGG16, with VOC2012", 66.4, 0.048, None, "YOLO, table 1"),
        Published("9 layers, with VOC2012", 52.7, 0.006, None, "YOLO, table 1"),
    ],
    "fast_yolo": [Published("Fast R-CNN of 71.8, YOLO of 63.4, with VOC2012", 75.0, None, None, "YOLO, table 2")],
    "ssd": [
        Published("VGG16, 300 pixels", 68.0, 0.022, None, "SSD, tables 1 and 7"),
        Published("VGG16, 300 pixels, with VOC2012", 77.2, 0.022, None, "SSD, tables 6 and 7"),
        Published("VGG16, 512 pixels", 71.6, 0.053, None, "SSD, tables 1 and 7"),
    ],
    "faster_unshared": [Published("VGG16", 68.5, None, None, "Faster R-CNN, table 3")],
}


def rows(methods: list[str]) -> list[dict[str, str | float | None]]:
    """The papers' lines for these methods, in their order, as flat rows."""
    return [
        {"method": name, "network": line.network, "voc07_map": line.voc07_map, "seconds": line.seconds,
         "hours": line.hours, "source": line.source}
        for name in methods
        for line in PUBLISHED.get(name, [])
    ]
