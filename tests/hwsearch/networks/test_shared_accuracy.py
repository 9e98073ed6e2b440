"""Accuracy of real weights on real inputs, where those lie beside the repository."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hwsearch.networks import DSCNN, load_checkpoint

KWS = Path(__file__).parents[3].parent / "shared" / "data" / "kws"


def test_dscnn_classifies_915_of_1000_keywords():
    if not KWS.is_dir():
        pytest.skip(f"no {KWS}: real data is not shipped with the project")
    network = load_checkpoint(DSCNN(), KWS / "dscnn_mlperf_tiny.pth").eval()
    with np.load(KWS / "kws01_mfcc.npz") as data:
        features = data["scale"] * (data["features_int8"].astype(np.float32) - data["zero_point"])
        labels = torch.from_numpy(data["labels"])
    with torch.inference_mode():
        logits = network(torch.from_numpy(features.astype(np.float32)).reshape(-1, 1, 49, 10))
    # The data's README.md says 91.50 %; 0.05 points allow for another order of summation.
    assert 100 * float((logits.argmax(1) == labels).double().mean()) == pytest.approx(91.5, abs=0.05)
