"""Decoding steps recorded once for a few row counts and replayed: a step then costs one launch, not one for each kernel.

Rows are padded to the next recorded count by rows of the scratch slot, each with a position of its own there, which
nobody reads. Not about which row counts (path.py) nor about steps with longer chunks, which are never recorded.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch

from node.engines.text.attention import Chunk
from node.engines.text.kv import TokenPool
from node.engines.text.model import TextModel
from node.engines.text.rounding import logits_error
from node.engines.text.upload import upload
from node.engines.text.varlen import Call, VarlenLayout
from protos.errors import LoadFailed


class Recorder(Protocol):
    """How computations are recorded on a device."""

    @property
    def bytes(self) -> int:
        """Of the device, that all that it recorded holds."""
        ...

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """compute: from tensors that stay where they are, without a look at their values. The result computes it again
        from what they then hold, into the same tensor each time."""
        ...


class Graphs:
    """The recorded steps of one model over one pool. One thread at a time."""

    def __init__(self, model: TextModel, pool: TokenPool, recorder: Recorder, row_counts: Sequence[int]) -> None:
        """row_counts: ascending. Raises LoadFailed when a recorded step gives other logits than the plain one."""
        self._model, self._pool, self._recorder = model, pool, recorder
        self._ids, self._positions, self._slots, self._begins = (
            torch.zeros(row_counts[-1], dtype=torch.long, device=model.device) for _ in range(4)
        )
        self._end = torch.tensor([pool.tokens], dtype=torch.int32, device=model.device)
        self._cu_q = torch.arange(row_counts[-1] + 1, dtype=torch.int32, device=model.device)
        self._replays: dict[int, Callable[[], torch.Tensor]] = {}
        self._fill(self._ids[:0], (), row_counts[-1])  # what is recorded runs too
        for rows in reversed(row_counts):  # the largest first: the others find room in its memory
            self._replays[rows] = recorder.record(lambda rows=rows: self._forward(rows))
            self._prove(rows)

    @property
    def bytes(self) -> int:
        return self._recorder.bytes

    def run(self, ids: torch.Tensor, chunks: Sequence[Chunk], pool: TokenPool, rows: Sequence[int]) -> torch.Tensor:
        """As TextModel.run, of the same pool."""
        count = min((each for each in self._replays if each >= len(chunks)), default=None)
        if count is None or len(ids) > len(chunks):
            return self._model.run(ids, chunks, pool, rows)
        self._fill(ids, chunks, count)
        logits = self._replays[count]()
        if list(rows) == list(range(len(chunks))):
            return logits[: len(chunks)].float()
        return logits[upload(rows, torch.long, self._model.device)].float()

    def _fill(self, ids: torch.Tensor, chunks: Sequence[Chunk], count: int) -> None:
        """What the next replay reads. A padding row is a sequence of one token in the scratch slot."""
        padding = range(count - len(chunks))
        positions = [*(chunk.start for chunk in chunks), *padding]
        slots = [*(chunk.slot for chunk in chunks), *(self._pool.scratch for _ in padding)]
        begins = [*(0 for _ in chunks), *padding]
        numbers = upload([positions, slots, begins], torch.long, self._model.device)
        for buffer, values in zip((self._positions, self._slots, self._begins), numbers, strict=True):
            buffer[:count].copy_(values)
        self._ids[: len(chunks)].copy_(ids)
        self._ids[len(chunks) : count].zero_()

    def _forward(self, rows: int) -> torch.Tensor:
        """Logits (rows, vocabulary) of the buffers' first rows. Asks the device for no value."""
        positions, begins = self._positions[:rows], self._begins[:rows]
        firsts = self._slots[:rows] * self._pool.context_tokens
        call = Call(
            slice(0, rows),
            self._cu_q[: rows + 1],
            torch.cat([(firsts + begins).int(), self._end]),
            (positions + 1 - begins).int(),
            max_q=1,
            max_k=self._pool.context_tokens,
        )
        layout = VarlenLayout(self._pool, self._model.attend, positions, firsts + positions, (call,))
        return self._model.logits(self._ids[:rows], layout)

    def _prove(self, rows: int) -> None:
        """The same computation as it is recorded and as it is: of the same shapes, so that not even a model that rounding
        throws far off tells them apart. With one row of padding, where there can be one, over whatever the slots hold."""
        used = max(1, rows - 1)
        chunks = [Chunk(slot, min(slot, self._pool.context_tokens - 1), 1) for slot in range(used)]
        ids = [7919 * (slot + 1) % self._model.vocabulary for slot in range(used)]
        self._fill(upload(ids, torch.long, self._model.device), chunks, rows)
        found = self._replays[rows]()[:used].float().clone()
        error = logits_error(found, self._forward(rows)[:used].float())
        if not error <= self._model.rounding:
            raise LoadFailed(f"a recorded step of {rows} rows gives logits that differ by {error:.2g} of their size")


class CudaRecorder:
    """CUDA graphs, all in one memory pool: no two are replayed at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self.bytes = 0

    def record(self, compute: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Other threads go on with their work on the device meanwhile. Source: "Whole-network capture" in PyTorch's notes
        on CUDA semantics."""
        before = torch.cuda.memory_reserved(self._device)
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.stream(self._stream):  # also puts the stream back when a capture fails
            for _ in range(2):  # libraries choose their kernels and take their workspaces
                compute()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                result = compute()
        torch.cuda.current_stream(self._device).wait_stream(self._stream)
        self.bytes += max(0, torch.cuda.memory_reserved(self._device) - before)

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay
