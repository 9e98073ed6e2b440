"""Training of float networks, so that there is something to quantize."""

from hwsearch.train.recipe import Recipe, crop_and_flip
from hwsearch.train.training import train

__all__ = ["Recipe", "crop_and_flip", "train"]
