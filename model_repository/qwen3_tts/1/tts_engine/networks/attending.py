"""Attention itself, of queries over keys and values, by torch's operations.

Knows neither where these come from nor where they are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Parts:
    """Several prompts end to end, of which each looks at itself alone: on a CPU their attention is computed one by one.

    Together it would cost the square of all their positions. queries, keys: how many each has. masks: bool (T, T_all)
    of each.
    """

    queries: list[int]
    keys: list[int]
    masks: list[Tensor]

    @classmethod
    def of(cls, owners: Tensor, places: Tensor) -> Parts:
        """owners (T_all,): whose each key is. places (T,): of each query among the keys."""
        keys, queries = owners.bincount().tolist(), owners[places].bincount().tolist()
        masks = [torch.ones(q, k, dtype=torch.bool).tril(k - q) for q, k in zip(queries, keys, strict=True)]
        return cls(queries, keys, masks)

    def attend(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """As `attend`, below."""
        parts = zip(query.split(self.queries, 2), keys.split(self.keys, 2), values.split(self.keys, 2), strict=True)
        return torch.cat([attend(*part, mask) for part, mask in zip(parts, self.masks, strict=True)], dim=1)


def attend(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | Parts | None) -> Tensor:
    """Attention of query (B, H, T, K) over keys and values (B, G, T_all, K): (B, T, H·K).

    mask: bool, broadcastable to (B, 1, T, T_all), true where a query may look; None lets all see all. Keys and values
    may be of a wider dtype than the query, in which attention is then computed.
    """
    if isinstance(mask, Parts):
        return mask.attend(query, keys, values)
    rows, heads, tokens, width = query.shape
    shared = keys.shape[1]
    if tokens == 1 and mask is None and query.device.type == "cpu":
        return _attend_to_few(query, keys, values)
    if keys.dtype != query.dtype:
        return attend(query.to(keys.dtype), keys, values, mask).to(query.dtype)
    if tokens == 1 and heads != shared:
        # One query each: the heads of a group become the query axis, and no key is copied.
        grouped = query.view(rows, shared, heads // shared, width)
        out = F.scaled_dot_product_attention(grouped, keys, values, attn_mask=mask)
        return out.reshape(rows, 1, heads * width)
    if heads != shared:
        # Of a GPU's kernels the one that takes a mask and makes no table of all scores wants a key for every head.
        keys, values = _for_each_head(keys, heads), _for_each_head(values, heads)
    out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
    return out.transpose(1, 2).reshape(rows, tokens, heads * width)


def _for_each_head(shared: Tensor, heads: int) -> Tensor:
    """Keys or values (B, G, T, K) of groups as those of their heads, (B, H, T, K)."""
    return shared[:, :, None].expand(-1, -1, heads // shared.shape[1], -1, -1).flatten(1, 2)


def _attend_to_few(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """As `attend`, of one query a row over keys that all may be looked at: on a CPU two products of many small matrices
    take a third of the time of torch's attention, which is made for many keys."""
    rows, heads, _, width = query.shape
    shared = keys.shape[1]
    grouped = (query.to(keys.dtype) * width**-0.5).reshape(rows * shared, heads // shared, width)
    scores = torch.bmm(grouped, keys.flatten(0, 1).transpose(1, 2))
    out = torch.bmm(scores.softmax(-1), values.flatten(0, 1))
    return out.view(rows, 1, heads * width).to(query.dtype)
