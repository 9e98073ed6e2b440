"""Capture of a float network as one graph."""

from hwsearch.graph.capture import CaptureError, capture
from hwsearch.graph.network import Network, Read
from hwsearch.graph.sharing import shared_inputs

__all__ = ["CaptureError", "Network", "Read", "capture", "shared_inputs"]
