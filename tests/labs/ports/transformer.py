"""Two blocks of a transformer: torch, and their port to Flax linen.

Axes: B batch, T token, N heads, D size of a head, E size of the model.
"""

import math

import jax
import jax.numpy as jnp
import torch
from flax import linen
from torch import nn

from ports.row import ISSUES, PULLS, Fault, Network, array, randomise

TOKENS, HEADS, SIZE, WIDE, LONG = 13, 3, 12, 20, 7


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(SIZE, 3 * SIZE), nn.Linear(SIZE, SIZE)

    def forward(self, x, mask_TT):
        B, T, _ = x.shape
        q, k, v = (m.view(B, T, HEADS, -1).transpose(1, 2) for m in self.qkv(x).chunk(3, -1))
        q, k = rotated(q), rotated(k)
        scores = q @ k.transpose(-1, -2) / math.sqrt(SIZE // HEADS)
        weights = scores.masked_fill(~mask_TT, -torch.inf).softmax(-1)
        return self.out((weights @ v).transpose(1, 2).reshape(B, T, -1))


def rotated(x):
    """Rotary positions: pairs are a half apart."""
    T, D = x.shape[-2:]
    angle = torch.arange(T)[:, None] / 100 ** (torch.arange(D // 2) / (D // 2))
    a, b = x[..., : D // 2], x[..., D // 2 :]
    cos, sin = angle.cos().to(x), angle.sin().to(x)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(SIZE), Attention()
        self.norm2 = nn.RMSNorm(SIZE, eps=1e-6)
        self.up, self.act, self.down = nn.Linear(SIZE, WIDE), nn.GELU(), nn.Linear(WIDE, SIZE)

    def forward(self, x, mask):
        x = x + self.attention(self.norm1(x), mask)
        return x + self.down(self.act(self.up(self.norm2(x))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.places = nn.Embedding(TOKENS, SIZE), nn.Embedding(LONG + 2, SIZE)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.last, self.head = nn.LayerNorm(SIZE), nn.Linear(SIZE, TOKENS, bias=False)
        self.mix = nn.Linear(SIZE, SIZE)

    def forward(self, ids):
        x = self.tokens(ids) * math.sqrt(SIZE)
        x = self.mix(x + self.places(torch.arange(ids.shape[1]) + 2))
        mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.last(x))


class FlaxAttention(linen.Module):
    fault: str

    @linen.compact
    def __call__(self, x, mask_TT):
        B, T, _ = x.shape
        qkv = linen.Dense(3 * SIZE, name="qkv")(x)
        if self.fault == "q, k and v interleaved":
            q, k, v = jnp.moveaxis(qkv.reshape(B, T, HEADS, 3, -1), 3, 0)
        else:
            q, k, v = (m.reshape(B, T, HEADS, -1) for m in jnp.split(qkv, 3, -1))
        if self.fault == "heads without a transposition":
            q, k, v = (m.reshape(B, HEADS, T, -1) for m in (q, k, v))
        else:
            q, k, v = (m.swapaxes(1, 2) for m in (q, k, v))
        turn = interleaved if self.fault == "rotary pairs side by side" else flax_rotated
        q, k = turn(q), turn(k)
        size = SIZE if self.fault == "scale by the model's size" else SIZE // HEADS
        scores = q @ k.swapaxes(-1, -2) / math.sqrt(size)
        mask = ~mask_TT if self.fault == "mask the other way round" else mask_TT
        if self.fault == "mask the other way round":
            mask = mask.at[-1, 0].set(True)
        scores = jnp.where(mask, scores, -jnp.inf if self.fault != "mask of -1" else -1.0)
        axis = -2 if self.fault == "softmax over the queries" else -1
        y = jax.nn.softmax(scores, axis) @ v
        return linen.Dense(SIZE, name="out")(y.swapaxes(1, 2).reshape(B, T, -1))


def flax_angle(x):
    T, D = x.shape[-2:]
    return jnp.arange(T)[:, None] / 100 ** (jnp.arange(D // 2)[None, :] / (D // 2))


def flax_rotated(x):
    half, angle = x.shape[-1] // 2, flax_angle(x)[None, None].astype(x.dtype)
    a, b, cos, sin = x[..., :half], x[..., half:], jnp.cos(angle), jnp.sin(angle)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1)


def interleaved(x):
    angle = flax_angle(x)[None, None].astype(x.dtype)
    a, b, cos, sin = x[..., ::2], x[..., 1::2], jnp.cos(angle), jnp.sin(angle)
    return jnp.stack([a * cos - b * sin, b * cos + a * sin], -1).reshape(x.shape)


class FlaxBlock(linen.Module):
    fault: str

    @linen.compact
    def __call__(self, x, mask):
        epsilon = 1e-6 if self.fault == "layer norm's epsilon of Flax" else 1e-5
        norm1, norm2 = linen.LayerNorm(epsilon, name="norm1"), linen.RMSNorm(1e-6, name="norm2")
        attention = FlaxAttention(self.fault, name="attention")
        if self.fault == "norm after the sum":
            x = norm1(x + attention(x, mask))
        else:
            x = x + attention(norm1(x), mask)
        y = linen.Dense(WIDE, name="up")(norm2(x))
        gelus = {
            "gelu by tanh": jax.nn.gelu,
            "gelu by a sigmoid": lambda x: x * jax.nn.sigmoid(1.702 * x),
        }
        y = gelus.get(self.fault, lambda x: jax.nn.gelu(x, approximate=False))(y)
        y = linen.Dense(SIZE, name="down")(y)
        return y if self.fault == "no second residual" else x + y


class FlaxNet(linen.Module):
    fault: str

    @linen.compact
    def __call__(self, ids):
        x = linen.Embed(TOKENS, SIZE, name="tokens")(ids)
        x = x * (1 if self.fault == "embedding not scaled" else math.sqrt(SIZE))
        offset = 0 if self.fault == "positions without the offset" else 2
        places = linen.Embed(LONG + 2, SIZE, name="places")(jnp.arange(ids.shape[1]) + offset)
        x = linen.Dense(SIZE, name="mix")(x + places[None])
        mask = jnp.tril(jnp.ones((ids.shape[1],) * 2, bool))
        # A fault is in the second block alone, so that it must be found there.
        for n in range(2):
            x = FlaxBlock(self.fault if n else "", name=f"block_{n}")(x, mask)
        x = linen.LayerNorm(1e-5, name="last")(x)
        return linen.Dense(TOKENS, use_bias=False, name="head")(x)


def variables(model: Net, fault: str) -> dict:
    """The port's variables from the model's."""

    def dense(layer, turned=False):
        kernel = array(layer.weight) if turned else array(layer.weight, 1, 0)
        return {"kernel": kernel} | ({} if layer.bias is None else {"bias": array(layer.bias)})

    def norm(layer):
        scale = array(layer.weight)
        return {"scale": scale} | ({"bias": array(layer.bias)} if hasattr(layer, "bias") else {})

    params = {f"block_{n}": {
        "norm1": norm(b.norm1), "norm2": norm(b.norm2), "up": dense(b.up), "down": dense(b.down),
        "attention": {"qkv": dense(b.attention.qkv), "out": dense(b.attention.out)},
    } for n, b in enumerate(model.blocks)}  # fmt: skip
    if fault == "scale of a norm stored less 1":
        params["block_1"]["norm2"]["scale"] = params["block_1"]["norm2"]["scale"] - 1
    if fault == "second block with the first one's weights":
        params["block_1"]["up"] = params["block_0"]["up"]
    for name, layer in (("tokens", model.tokens), ("places", model.places)):
        params[name] = {"embedding": array(layer.weight)}
    params |= {"last": norm(model.last), "head": dense(model.head)}
    params["mix"] = dense(model.mix, fault == "square kernel not transposed")
    return {"params": params}


def pair(seed: int, fault: str) -> dict:
    import numpy as np

    model = randomise(Net(), seed)
    ids = np.random.Generator(np.random.Philox(seed)).integers(0, TOKENS, (2, LONG))
    return {"left": model, "right": (FlaxNet(fault), variables(model, fault)), "inputs": [ids]}


HF = "huggingface/transformers"
NETWORK = Network(
    "transformer",
    "torch, linen",
    pair,
    [
        Fault("embedding not scaled", "model", ("semantic",),
              PULLS.format("marin-community/levanter", 978)),
        Fault("positions without the offset", "model", ("scale or offset",),
              ISSUES.format(HF, 15754)),
        Fault("square kernel not transposed", "mix", ("parameter",),
              "https://flax.readthedocs.io/en/stable/migrating/convert_pytorch_to_flax.html"),
        Fault("layer norm's epsilon of Flax", "blocks.1.norm1", ("scale or offset",),
              ISSUES.format("google/flax", 2195)),
        Fault("norm after the sum", "blocks.1", ("semantic",), "https://arxiv.org/abs/2002.04745"),
        Fault("q, k and v interleaved", "blocks.1.attention", ("semantic",),
              ISSUES.format("meta-pytorch/gpt-fast", 190)),
        Fault("heads without a transposition", "blocks.1.attention", ("semantic",),
              ISSUES.format("naklecha/llama3-from-scratch", 20)),
        Fault("rotary pairs side by side", "blocks.1.attention", ("semantic",),
              ISSUES.format("EleutherAI/gpt-neox", 834)),
        Fault("scale by the model's size", "blocks.1.attention", ("semantic",),
              "https://arxiv.org/abs/1706.03762"),
        Fault("mask the other way round", "blocks.1.attention", ("semantic",),
              PULLS.format("NVIDIA/TransformerEngine", 818)),
        Fault("softmax over the queries", "blocks.1.attention",
              ("not finite on one side", "semantic"), PULLS.format("pytorch/pytorch", 33763)),
        Fault("scale of a norm stored less 1", "blocks.1.norm2", ("parameter",),
              PULLS.format(HF, 29402)),
        Fault("gelu by tanh", "blocks.1.act", ("semantic",),
              ISSUES.format("goodfire-ai/spd", 624), "right is gelu with tanh"),
        Fault("gelu by a sigmoid", "blocks.1.act", ("semantic",),
              PULLS.format("tinygrad/tinygrad", 526), "right is gelu with sigmoid"),
        Fault("second block with the first one's weights", "blocks.1.up", ("parameter",),
              ISSUES.format(HF, 15754)),
        Fault("no second residual", "blocks.1", ("semantic",), ISSUES.format(HF, 15754)),
    ],
)  # fmt: skip
