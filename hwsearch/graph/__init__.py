"""Capture of a float network as one graph."""

from hwsearch.graph.capture import CaptureError, capture
from hwsearch.graph.network import Network, Read

__all__ = ["CaptureError", "Network", "Read", "capture"]
