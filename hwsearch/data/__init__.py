"""Images to score and to calibrate on; every loader returns a ``Dataset``."""

from hwsearch.data.batches import Batch, Batches
from hwsearch.data.dataset import Dataset
from hwsearch.data.digits import digits_training_set, load_digits
from hwsearch.data.images import load_images
from hwsearch.data.npz import load_npz
from hwsearch.data.preprocess import Preprocess
from hwsearch.data.split import evenly_spaced, stratified_halves
from hwsearch.data.torchvision_dataset import load_torchvision

__all__ = [
    "Batch",
    "Batches",
    "Dataset",
    "Preprocess",
    "digits_training_set",
    "evenly_spaced",
    "load_digits",
    "load_images",
    "load_npz",
    "load_torchvision",
    "stratified_halves",
]
