"""The models of `train.py` and `shakespeare.py` in PyTorch, as its best users write them for the CPU: one product for
queries, keys and values, fused attention, fused AdamW. Imported only where PyTorch is."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    """Attention, then two products with GELU between them, each normalised before and added to what came in."""

    def __init__(self, width, heads, *, dropout=0.0, bias=True, causal=False):
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_heads, self.norm_wide = (nn.LayerNorm(width, bias=bias) for _ in range(2))
        self.to_heads = nn.Linear(width, 3 * width, bias=bias)
        self.from_heads = nn.Linear(width, width, bias=bias)
        self.widen = nn.Linear(width, 4 * width, bias=bias)
        self.narrow = nn.Linear(4 * width, width, bias=bias)
        self.drop = nn.Dropout(dropout) if dropout else nn.Identity()

    def attend(self, x, keep):
        sets, tokens, _ = x.shape
        # [sets, tokens, 3 · heads, width of a head], and each third with its heads before its tokens
        parts = self.to_heads(x).view(sets, tokens, 3 * self.heads, -1).transpose(1, 2).chunk(3, dim=1)
        out = F.scaled_dot_product_attention(*parts, attn_mask=keep, is_causal=self.causal)
        return self.from_heads(out.transpose(1, 2).flatten(2))

    def forward(self, x, keep=None):
        x = x + self.drop(self.attend(self.norm_heads(x), keep))
        return x + self.drop(self.narrow(F.gelu(self.widen(self.norm_wide(x)))))


class Encoder(nn.Module):
    """Ids of words to class logits. `keep` is true for keys that are no padding; None if none is."""

    def __init__(self, width, layers, heads, *, words, classes, dropout):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.blocks = nn.ModuleList([Block(width, heads, dropout=dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, ids, keep=None):
        x = self.words(ids)
        for block in self.blocks:
            x = block(x, keep)
        return self.head(self.norm(x))


class Characters(nn.Module):
    """What comes after each character, from it and those before: nanoGPT (Karpathy, 2022) without biases, its output
    weights those of the embedding."""

    def __init__(self, characters, *, width=128, layers=4, heads=4, context=64):
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.places = nn.Embedding(context, width)
        self.blocks = nn.ModuleList([Block(width, heads, bias=False, causal=True) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                # What is added to the residual stream is the smaller, the more of it there is.
                added = name.endswith(("from_heads.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * layers) if added else 0.02)

    def forward(self, ids):
        x = self.embedding(ids) + self.places.weight[: ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.embedding.weight)

    def groups(self, decay):
        """Parameters for the optimiser: only matrices decay."""
        matrices = [weight for weight in self.parameters() if weight.dim() > 1]
        others = [weight for weight in self.parameters() if weight.dim() <= 1]
        return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def mean_loss(logits, targets, **options):
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), **options)
