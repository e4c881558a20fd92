"""What a Faster R-CNN score hangs on: Fast R-CNN's, since its detector is that network on a fixed region."""

from lib.detectors.fast.explain import Explainer

__all__ = ["Explainer"]
