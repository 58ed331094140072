"""How a model follows its prompt more closely than it would by itself, and what a picture costs by that."""

from enum import Enum, auto


class Guidance(Enum):
    PAIRS = auto()  # classifier-free: a second row in the forward without the prompt. Source: Ho and Salimans 2022
    TOLD = auto()  # distilled into the model, which is told the scale
    NONE = auto()  # distilled without one
