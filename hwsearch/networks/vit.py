"""Vision transformers: Dosovitskiy et al. 2021, arXiv:2010.11929, with the parameter names of timm's weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchEmbedding(nn.Module):
    """Square patches of an image as tokens."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.proj(x)
        return patches.flatten(2).transpose(1, 2)  # [N, C, h, w] -> [N, h*w, C]


class Attention(nn.Module):
    """Multi-head self-attention in single steps, so that its scores and weights are tensors that can be quantized."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1:]
        split = self.qkv(x).reshape(-1, tokens, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)  # each [N, heads, tokens, width / heads]
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        values = scores.softmax(-1) @ v
        mixed: Tensor = self.proj(values.transpose(1, 2).reshape(-1, tokens, width))
        return mixed


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return y


class Block(nn.Module):
    """Attention and a perceptron, each normalized before and added to what it reads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        x = x + self.mlp(self.norm2(x))
        return x


class VisionTransformer(nn.Module):
    """ViT for ``[N, 3, size, size]`` inputs; widths 192, 384 and 768 make DeiT-Ti, -S and -B.

    Args:
        width: Features of a token.
        heads: Attention heads, among which ``width`` is divided.
        depth: Number of blocks.
        patch: Height and width of a patch.
        size: Height and width of an image.
        classes: Number of classes.

    Raises:
        ValueError: If ``heads`` does not divide ``width``, or ``patch`` does not divide ``size``.

    Reference: Touvron et al. 2021, arXiv:2012.12877, table 1.
    """

    def __init__(
        self, width: int, heads: int, depth: int = 12, patch: int = 16, size: int = 224, classes: int = 1000
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"VisionTransformer width={width} is no multiple of heads={heads}.")
        if size % patch:
            raise ValueError(f"VisionTransformer size={size} is no multiple of patch={patch}.")
        self.patch_embed = PatchEmbedding(width, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = nn.Linear(width, classes)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], 1) + self.pos_embed
        x = self.norm(self.blocks(x))
        logits: Tensor = self.head(x[:, 0])
        return logits
