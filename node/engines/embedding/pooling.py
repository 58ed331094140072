"""A sentence-transformers folder as it describes itself: which encoder, how tokens become a vector, which prompts.

Reads the files of the library instead of importing it: the import alone takes longer than everything else at a node's
start (5 s on two cores), for modules of which a step needs three lines. Tests hold the vectors against the library's.
Source: https://sbert.net/docs/sentence_transformer/usage/custom_models.html
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch

Pool = Callable[[torch.Tensor], torch.Tensor]  # (tokens, dim) of one text -> (dim,)


class UnknownModule(ValueError):
    """The folder asks for something that is not served."""


def _weighted_mean(tokens: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1, len(tokens) + 1, dtype=tokens.dtype, device=tokens.device)
    return (tokens * weights[:, None]).sum(0) / weights.sum()


POOLS: Final[Mapping[str, Pool]] = {
    "cls": lambda tokens: tokens[0],
    "max": lambda tokens: tokens.amax(0),
    "mean": lambda tokens: tokens.mean(0),
    "mean_sqrt_len_tokens": lambda tokens: tokens.sum(0) / len(tokens) ** 0.5,
    "weightedmean": _weighted_mean,
    "lasttoken": lambda tokens: tokens[-1],
}
_LEGACY: Final[Mapping[str, str]] = {  # as files of before sentence-transformers 5.4 say it, in the order of joining
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How the folder turns text into a vector."""

    encoder: Path
    pools: Sequence[str]  # names in POOLS; several are joined
    is_normalized: bool
    max_tokens: int | None  # of a text; None: the encoder's own
    is_lowercased: bool
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None  # a name in prompts

    def pool(self, tokens: torch.Tensor) -> torch.Tensor:
        """(tokens, dim) of one text -> its vector."""
        return torch.cat([POOLS[name](tokens) for name in self.pools])


def read_recipe(folder: Path) -> Recipe:
    """Raises UnknownModule, OSError or ValueError (not JSON)."""
    modules = [(entry["type"].rpartition(".")[2], folder / entry["path"]) for entry in _json(folder / "modules.json")]
    kinds = [kind for kind, _ in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise UnknownModule(
            f"modules.json names {', '.join(kinds)}: only Transformer, Pooling and Normalize are served"
        )
    encoder, pooling = modules[0][1], modules[1][1]
    stated = _json_or_empty(encoder / "sentence_bert_config.json")
    whole = _json_or_empty(folder / "config_sentence_transformers.json")
    return Recipe(
        encoder=encoder,
        pools=_pools(_json(pooling / "config.json")),
        is_normalized="Normalize" in kinds,
        max_tokens=stated.get("max_seq_length"),
        is_lowercased=bool(stated.get("do_lower_case", False)),
        prompts={name: prompt for name, prompt in (whole.get("prompts") or {}).items() if prompt},
        default_prompt=whole.get("default_prompt_name"),
    )


def _pools(config: Mapping[str, Any]) -> Sequence[str]:
    if not config.get("include_prompt", True):
        raise UnknownModule("its pooling leaves the prompt out (include_prompt is false), which is not served")
    stated = config.get("pooling_mode") or [name for key, name in _LEGACY.items() if config.get(key)]
    names = (stated,) if isinstance(stated, str) else tuple(stated)
    if unknown := [name for name in names if name not in POOLS]:
        raise UnknownModule(f"it pools by {', '.join(unknown)}: only {', '.join(POOLS)} are served")
    return names or ("mean",)


def _json(path: Path) -> Any:  # whatever the file holds
    return json.loads(path.read_text(encoding="utf-8"))


def _json_or_empty(path: Path) -> dict[str, Any]:
    return _json(path) if path.is_file() else {}
