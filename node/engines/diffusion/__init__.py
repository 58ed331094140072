"""The diffusion engine, as a package: `load` is its door."""

from node.engines.diffusion.engine import load

__all__ = ["load"]
