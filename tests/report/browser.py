"""What the tests of pages share: a browser where one is installed, an image, and errors of a method."""

import shutil
import subprocess

import numpy as np
import pytest

from lib.evaluation.errors import classify
from lib.evaluation.inputs import Inputs
from tests.evaluation.eval_tables import detections_table, images_table, objects_table

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = '</script><b>"&'
SQUARE = (10, 10, 60, 60)
in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


def browse(path, tmp_path):
    """The page's elements after its script has run, and what the browser logged."""
    result = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
         f"--user-data-dir={tmp_path / 'user'}", "--virtual-time-budget=4000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, timeout=120, check=True,
    )
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


def image(width=120, height=80):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def errors_of(*detections):
    objects = [("i.jpg", HOSTILE, SQUARE), ("i.jpg", "k", (70, 10, 110, 60)), ("j.jpg", "k", SQUARE, "difficult")]
    images = images_table("i.jpg", "j.jpg")
    return classify(Inputs.of(images, objects_table(*objects), detections_table(*detections), [HOSTILE, "k"]))
