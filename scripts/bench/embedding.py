"""Texts per second of the embedding engine, in process: beside sentence-transformers' encode and onnxruntime.

    python scripts/bench/embedding.py [--texts 64] [--rounds 3] [--threads 1]

The texts are of 8 to 400 tokens, each a request of its own, all at once; the peers take one after another, which is their
fastest way on a CPU, for padding costs more than batches gain. Checks first that all give the same vectors. What it leaves
out: HTTP, gRPC, the scheduler.
"""
# minutes: 2
# limits: docs/embedding-in-process.md

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import onnxruntime
import sentence_transformers
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from node.engine import DeviceSpec, Done, ModelSpec
from node.engines.embedding import load
from protos.types import EmbeddingRequest, Modality, ModelId, Task, TaskId
from scripts.bench.lib.report import Row, publish
from scripts.bench.lib.sentences import minilm, sentences

STEP_TOKENS = 1024  # as the shipped models.toml has it
Vectors = NDArray[np.float32]
Way = Callable[[Sequence[str]], Vectors]


def engine_of(path: str, seats: int, threads: int, dtype: str) -> Way:
    """Each text a request of its own, all at once."""
    spec = ModelSpec(
        id=ModelId("bench"),
        engine="embedding",
        modality=Modality.EMBEDDING,
        path=path,
        seats=seats,
        step_tokens=STEP_TOKENS,
        dtype=dtype,
    )
    engine = load(spec, DeviceSpec("cpu", 0, threads))
    engine.warm_up()

    def run(texts: Sequence[str]) -> Vectors:
        for i, text in enumerate(texts):
            assert engine.admit(engine.prepare(Task(id=TaskId(str(i)), request=EmbeddingRequest(texts=[text]))))
        found: dict[int, bytes] = {}
        while engine.seated:
            events = engine.step(None).events
            found |= {int(task_id): engine.finish(e.raw).vectors for task_id, e in events if isinstance(e, Done)}
        return np.stack([np.frombuffer(found[i], "<f4") for i in range(len(texts))])

    return run


def library(path: str) -> Way:
    model = SentenceTransformer(path, device="cpu", local_files_only=True)
    return lambda texts: np.concatenate([model.encode([text], show_progress_bar=False) for text in texts])


def onnx(path: str, threads: int, folder: Path) -> Way:
    """The encoder in onnxruntime, pooled and normalised in numpy."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported(path, folder), options, providers=["CPUExecutionProvider"])
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)

    def one(text: str) -> Vectors:
        ids = np.array([tokenizer(text)["input_ids"]])
        mean = session.run(None, {"ids": ids, "mask": np.ones_like(ids)})[0][0].mean(0)
        return mean / np.linalg.norm(mean)

    return lambda texts: np.stack([one(text) for text in texts])


class _Encoder(torch.nn.Module):
    """What is exported: ids and mask to hidden states."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(path, attn_implementation="eager", local_files_only=True).eval()

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=ids, attention_mask=mask).last_hidden_state


def exported(path: str, folder: Path) -> str:
    """By the tracing exporter: it wants the package onnx alone, and takes seconds where the newer one takes a minute."""
    file = str(folder / "encoder.onnx")
    ids = torch.randint(1000, 20_000, (2, 11))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    axes = {0: "texts", 1: "tokens"}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Encoder(path),
            (ids, mask),
            file,
            input_names=["ids", "mask"],
            output_names=["hidden"],
            dynamic_axes={"ids": axes, "mask": axes, "hidden": axes},
            dynamo=False,
        )
    return file


def check(vectors: Mapping[str, Vectors]) -> dict[str, float]:
    """How far each way's vectors are from the library's; in bfloat16 a cosine must do."""
    expected = vectors["encode"]
    differences = {name: float(np.abs(found - expected).max()) for name, found in vectors.items()}
    for name in ("float32", "onnxruntime"):
        assert differences[name] < 1e-5, f"{name} gave other vectors: they differ by {differences[name]}"
    cosine = float((vectors["bfloat16"] * expected).sum(1).min())
    assert cosine > 0.999, f"bfloat16 gave other vectors: the least cosine is {cosine}"
    return {"largest_difference": differences["float32"], "least_cosine_bfloat16": cosine}


def rates(ways: Mapping[str, Way], texts: Sequence[str], rounds: int) -> dict[str, list[float]]:
    """Texts per second of each way in each round, in turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            way(texts)
            found[name].append(len(texts) / (time.perf_counter() - started))
    return found


def row(found: Mapping[str, Sequence[float]], ours: str, theirs: str, peer: str, at_least: float | None) -> Row:
    return Row(
        work=f"embeddings in process, {ours}",
        peer=peer,
        measure="texts/s",
        values=[mine / other for mine, other in zip(found[ours], found[theirs], strict=True)],
        at_least=at_least,
        ours=statistics.median(found[ours]),
        theirs=statistics.median(found[theirs]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = sentences(options.texts)
    with tempfile.TemporaryDirectory() as folder:
        path = str(minilm(Path(folder)))
        ways = {
            "encode": library(path),
            "float32": engine_of(path, options.texts, options.threads, "float32"),
            "onnxruntime": onnx(path, options.threads, Path(folder)),
            "bfloat16": engine_of(path, options.texts, options.threads, "bfloat16"),
        }
        checked = check({name: way(texts) for name, way in ways.items()})
        found = rates(ways, texts, options.rounds)
    publish(
        "embedding",
        [
            row(found, "float32", "encode", "sentence-transformers, encode per request", at_least=2.5),
            row(found, "float32", "onnxruntime", "onnxruntime, float32", at_least=1.1),
            row(found, "bfloat16", "onnxruntime", "onnxruntime, float32", at_least=None),
            row(found, "bfloat16", "float32", "our own float32", at_least=None),
        ],
        **vars(options),
        **checked,
        sentence_transformers=sentence_transformers.__version__,
        onnxruntime=onnxruntime.__version__,
    )


if __name__ == "__main__":
    main()
