"""What computes the steps of one engine: the model over its pool, by recorded steps where there are some.

Not about who is in a step (engine.py).
"""

import logging
from collections.abc import Sequence

import torch

from node.engines.text.attention import Chunk
from node.engines.text.graphs import Graphs, Recorder
from node.engines.text.kv import TokenPool
from node.engines.text.model import TextModel
from node.engines.text.path import row_counts
from protos.errors import LoadFailed

_log = logging.getLogger(__name__)


class Compute:
    def __init__(self, model: TextModel, slots: int, context_tokens: int, recorder: Recorder | None) -> None:
        """recorder: of the decoding steps; None: they are not recorded. Raises DoesNotFit."""
        self.pool = model.new_pool(slots, context_tokens)
        self._model, self._recorder = model, recorder
        self._graphs: Graphs | None = None

    @property
    def bytes(self) -> int:
        """Of the pool, and of what was recorded."""
        return self.pool.bytes + (self._graphs.bytes if self._graphs is not None else 0)

    def record(self, name: str, most: int) -> None:
        """The decoding steps of up to `most` rows. A model that cannot be recorded goes on without."""
        if self._recorder is None or not isinstance(self.pool, TokenPool):
            return
        counts = row_counts(most, self.pool.context_tokens)
        try:
            self._graphs = Graphs(self._model, self.pool, self._recorder, counts)
        except (LoadFailed, RuntimeError) as refusal:
            _log.warning("model %s decodes without graphs: %s", name, refusal)
        else:
            _log.info("model %s: decode: graphs at %s rows", name, ", ".join(map(str, counts)))

    def run(self, ids: torch.Tensor, chunks: Sequence[Chunk], rows: Sequence[int]) -> torch.Tensor:
        """As TextModel.run."""
        return (self._graphs or self._model).run(ids, chunks, self.pool, rows)
