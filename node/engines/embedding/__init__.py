"""The embedding engine, as a package: `load` is its door."""

from node.engines.embedding.engine import load

__all__ = ["load"]
