"""The text engine, as a package: `load` is its door."""

from node.engines.text.load import load

__all__ = ["load"]
