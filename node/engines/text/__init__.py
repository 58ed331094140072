"""The text engine, as a package: `load` is its door."""

from node.engines.text.engine import load

__all__ = ["load"]
