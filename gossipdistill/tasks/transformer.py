"""A small decoder-only transformer, as language tasks need it. Without dropout or BatchNorm: its only state is its
weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Block(nn.Module):
    """Causal self-attention, then two fully connected layers; each after a LayerNorm and added to its input.

    Vaswani et al. 2017 (1706.03762), section 3, with the normalisation first (Xiong et al. 2020, 2002.04745).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_layers = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.widen, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        """[rows, positions, width] to the same shape; no position sees a later one."""
        rows, positions, width = h.shape
        joint = self.queries_keys_values(self.before_attention(h))
        q, k, v = joint.view(rows, positions, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(q, k, v, is_causal=True)
        h = h + self.out(mixed.transpose(1, 2).reshape(rows, positions, width))
        deepened: Tensor = h + self.narrow(gelu(self.widen(self.before_layers(h))))
        return deepened


class Transformer(nn.Module):
    """Symbols [rows, positions] (int64) to logits [rows, positions, symbols] for the symbol after each of them; with
    `last_only`, [rows, symbols] for that after the last."""

    def __init__(
        self, symbols: int, positions: int, width: int, layers: int, heads: int, last_only: bool = False
    ) -> None:
        super().__init__()
        self.last_only = last_only
        self.symbols, self.places = nn.Embedding(symbols, width), nn.Embedding(positions, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.last, self.read = nn.LayerNorm(width), nn.Linear(width, symbols)
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)  # else the first losses are far above those of a guess

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[1], device=x.device)
        h = self.blocks(self.symbols(x) + self.places(places))
        logits: Tensor = self.read(self.last(h[:, -1] if self.last_only else h))
        return logits
