"""What torch's varlen_attn computes, on a CPU, with its contract held to: so that what is told to the kernel is proven.

Stricter than the kernel, which reads past its bounds without a word.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention


def reference_varlen(  # noqa: PLR0917 - varlen_attn's
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float | None = None,
    window_size: tuple[int, int] = (-1, -1),
    enable_gqa: bool = False,
    seqused_k: torch.Tensor,
) -> torch.Tensor:
    """As node/engines/text/varlen.py's Attend."""
    window = list(window_size)
    return _computed(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, scale, window, enable_gqa, seqused_k)


@torch.library.custom_op("fabric_tests::varlen", mutates_args=())  # one operation, as the kernel is, for who records it
def _computed(  # noqa: PLR0917
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seq_q: torch.Tensor,
    cu_seq_k: torch.Tensor,
    max_q: int,
    max_k: int,
    scale: float | None,
    window: list[int],
    enable_gqa: bool,
    seqused_k: torch.Tensor,
) -> torch.Tensor:
    cu_q, cu_k, used = (_numbers(each) for each in (cu_seq_q, cu_seq_k, seqused_k))
    count = len(used)
    queries = [cu_q[i + 1] - cu_q[i] for i in range(count)]
    assert len(cu_q) == len(cu_k) == count + 1
    assert (cu_q[0], cu_q[-1], cu_k[-1]) == (0, query.shape[0], key.shape[0])
    assert all(query.stride(-1) == tensor.stride(-1) == 1 for tensor in (key, value))
    assert query.shape[1] == key.shape[1] or (enable_gqa and query.shape[1] % key.shape[1] == 0)
    assert key.shape == value.shape
    assert 1 <= min(queries) <= max(queries) <= max_q, "rows without a query, or more of them than was said"
    assert max(used) <= max_k
    if max_q == 1:
        assert query.shape[0] == count, "the kernel's way for decoding takes one query of each sequence"
    parts = []
    for i in range(count):
        assert cu_k[i] + used[i] <= cu_k[i + 1], "a sequence reads into the next one's slot"
        assert queries[i] <= used[i]
        at = slice(cu_k[i], cu_k[i] + used[i])
        parts.append(_one(query[cu_q[i] : cu_q[i + 1]], key[at], value[at], scale, window))
    return torch.cat(parts)


def _numbers(tensor: torch.Tensor) -> list[int]:
    assert (tensor.dtype, tensor.dim()) == (torch.int32, 1)
    assert tensor.is_contiguous()
    numbers: list[int] = tensor.tolist()
    return numbers


def _one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float | None, window: list[int]
) -> torch.Tensor:
    """(tokens, heads, dim) of one sequence, its last query at its last key."""
    rows, columns = len(query), len(key)
    own = torch.arange(columns - rows, columns)[:, None]
    seen = torch.arange(columns)[None]
    allowed = torch.ones(rows, columns, dtype=torch.bool)
    if window[0] >= 0:
        allowed &= seen >= own - window[0]
    if window[1] >= 0:
        allowed &= seen <= own + window[1]
    out = scaled_dot_product_attention(
        query.transpose(0, 1)[None],
        key.transpose(0, 1)[None],
        value.transpose(0, 1)[None],
        attn_mask=allowed,
        scale=scale,
        enable_gqa=True,
    )
    return out[0].transpose(0, 1)
