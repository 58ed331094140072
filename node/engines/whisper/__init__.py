"""The speech engine, as a package: `load` is its door."""

from node.engines.whisper.engine import load

__all__ = ["load"]
