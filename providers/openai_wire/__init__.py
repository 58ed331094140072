"""The wire that OpenAI and all compatible servers speak, through the official client: one file per modality.

Not about which server it is (providers/openai.py, providers/compatible.py).
"""

from providers.openai_wire.api import OpenAIWire
from providers.openai_wire.dialect import Dialect

__all__ = ["Dialect", "OpenAIWire"]
