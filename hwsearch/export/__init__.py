"""Quantized networks as folders that run without hwsearch."""

from hwsearch.export.folder import Export, export_tvm, require_writable

__all__ = ["Export", "export_tvm", "require_writable"]
