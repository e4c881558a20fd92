"""Arithmetic of the default data set: right against numpy and OpenCV, and the same whatever the processor can do."""

import hashlib
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from lib.digits import exact
from lib.digits.compose import compose, divide_samples
from tests.digits.test_digits import CLUTTERED

# sha256 of two images with all that may stand in them; a change of a single pixel or box is another one.
DIGEST = "0c9768126b44e1fd18403aae67b8e00c6ed54c3f73ec3606bb984046e06f5791"


def digest():
    source, photos, state = load_digits(), load_sample_images().images, hashlib.sha256()
    samples = divide_samples(CLUTTERED, source.target)
    for split, index in (("train", 0), ("test", 1)):
        picture = compose(CLUTTERED, split, index, photos, source.images, samples[split])
        state.update(picture.image.tobytes() + repr(picture.digits).encode())
    return state.hexdigest()


def test_the_images_are_the_same_bytes_everywhere():
    assert digest() == DIGEST


def test_and_on_a_processor_without_wide_instructions():
    """The same in a process in which NumPy and OpenCV may use none of these: other code, other order, nothing fused."""
    off = "AVX2 FMA3 AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
    environment = {
        **os.environ, "NPY_DISABLE_CPU_FEATURES": off,
        "OPENCV_CPU_DISABLE": "SSE4.1,SSE4.2,AVX,FP16,AVX2,FMA3,AVX512_SKX",
        "PYTHONWARNINGS": "ignore",
    }
    command = "from tests.digits.test_exact import digest; print(digest())"
    done = subprocess.run(
        [sys.executable, "-c", command], env=environment, capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split()[-1] == DIGEST


def test_power_and_rotation():
    for base, exponent in ((4.0, 0.5), (2.75, 0.3), (exact.E, 7.9), (1.5, 0.0)):
        assert exact.power(base, exponent) == pytest.approx(base**exponent, rel=1e-9)
    for degrees in (-45.0, 0.0, 12.0, 45.0):
        angle = np.deg2rad(degrees)
        assert exact.rotation(degrees) == pytest.approx((np.cos(angle), np.sin(angle)), abs=1e-14)


def test_images_against_opencv():
    field = np.random.default_rng(0).random((40, 30))
    theirs = cv2.resize(field, (70, 90), interpolation=cv2.INTER_CUBIC)  # its weights are float32
    assert np.allclose(exact.resized(field, 90, 70), theirs, atol=1e-5)
    assert np.allclose(exact.blurred(field, 1.5), cv2.GaussianBlur(field, (13, 13), 1.5), atol=1e-6)
    square = field[:30]
    move = cv2.getRotationMatrix2D((14.5, 14.5), 10, 1.5)
    move[:, 2] += 29.5 - 14.5  # the centres of 60 and of 30 pixels
    turned = exact.turned(square, 10, 1.5, 60)
    theirs = cv2.warpAffine(square, move, (60, 60), flags=cv2.INTER_LINEAR)  # it rounds places to 1/32
    assert np.abs(turned - theirs).mean() < 0.01


def test_distance_by_hand():
    """Pixel centres at .5: from the line y = 1 between x = 1 and 3, (.5, .5) is sqrt(.5) away, (2.5, 2.5) is 1.5."""
    away = exact.distance(3, 4, [(1.0, 1.0), (3.0, 1.0)])
    assert away[0, 0] == pytest.approx(0.5**0.5)
    assert away[2, 2] == 1.5
