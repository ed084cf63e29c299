"""Two recurrent cells over a sequence: torch, and their port to Equinox.

Axes: B batch, T time, I input, H hidden.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import nn

from ports.row import ISSUES, PULLS, Fault, Network, array, normal, randomise

BATCH, TIME, GIVEN, HIDDEN, CLASSES = 3, 5, 7, 11, 13


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.gru = nn.LSTMCell(GIVEN, HIDDEN), nn.GRUCell(HIDDEN, HIDDEN)
        self.norm, self.head = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x_BTI):
        h = c = g = x_BTI.new_zeros(x_BTI.shape[0], HIDDEN)
        for t in range(x_BTI.shape[1]):
            h, c = self.lstm(x_BTI[:, t], (h, c))
            g = self.gru(h, g)
        return self.head(self.norm(torch.tanh(g)))


class Gru(eqx.Module):
    """A GRU whose reset is before the matrix product, as in the paper of 2014."""

    weight_ih: jax.Array
    weight_hh: jax.Array
    bias: jax.Array
    bias_n: jax.Array

    def __call__(self, x, h):
        size = h.shape[0]
        given, gates = self.weight_ih @ x + self.bias, self.weight_hh[: 2 * size] @ h
        r = jax.nn.sigmoid(given[:size] + gates[:size])
        z = jax.nn.sigmoid(given[size : 2 * size] + gates[size:])
        n = jnp.tanh(given[2 * size :] + self.weight_hh[2 * size :] @ (r * h) + r * self.bias_n)
        return n + z * (h - n)


class EqxNet(eqx.Module):
    cell: eqx.nn.LSTMCell
    second: eqx.Module
    norm: eqx.nn.LayerNorm
    out: eqx.nn.Linear
    fault: str = eqx.field(static=True)

    def __call__(self, x_TI):
        h = c = g = jnp.zeros(HIDDEN, x_TI.dtype)
        if self.fault == "sequence the other way round":
            x_TI = x_TI[::-1]
        for x in x_TI:
            if self.fault == "hidden and cell state exchanged":
                c, h = self.cell(x, (h, c))
            else:
                h, c = self.cell(x, (h, c))
            g = self.second(h, g)
        g = jax.nn.hard_tanh(g) if self.fault == "hard tanh" else jnp.tanh(g)
        return self.out(self.norm(g))


def port(model: Net, fault: str) -> EqxNet:
    """The port, with a fault where one is named."""
    keys = jax.random.split(jax.random.key(0), 4)
    lstm, gru = eqx.nn.LSTMCell(GIVEN, HIDDEN, key=keys[0]), eqx.nn.GRUCell(
        HIDDEN, HIDDEN, key=keys[1])  # fmt: skip
    theirs = model.lstm
    biases = array(theirs.bias_ih) + array(theirs.bias_hh)
    if fault == "one of two biases":
        biases = array(theirs.bias_hh)
    if fault == "forget bias of 1":
        biases = biases.copy()
        biases[HIDDEN : 2 * HIDDEN] += 1
    gates = [array(theirs.weight_ih), array(theirs.weight_hh), biases]
    if fault == "gates in the order i f o g":
        gates = [turned(x) for x in gates]

    def put(cell, names, values):
        for name, value in zip(names, values, strict=True):
            cell = eqx.tree_at(lambda m, n=name: getattr(m, n), cell, jnp.asarray(value))
        return cell

    lstm = put(lstm, ("weight_ih", "weight_hh", "bias"), gates)
    given, hidden = array(model.gru.bias_ih), array(model.gru.bias_hh).copy()
    bias = given.copy()
    bias[: 2 * HIDDEN] += hidden[: 2 * HIDDEN]
    values = [array(model.gru.weight_ih), array(model.gru.weight_hh), bias, hidden[2 * HIDDEN :]]
    if fault == "reset before the product":
        gru = Gru(*map(jnp.asarray, values))
    else:
        gru = put(gru, ("weight_ih", "weight_hh", "bias", "bias_n"), values)
    norm = put(eqx.nn.LayerNorm(HIDDEN), ("weight", "bias"),
               (array(model.norm.weight), array(model.norm.bias)))  # fmt: skip
    out = put(eqx.nn.Linear(HIDDEN, CLASSES, key=keys[2]), ("weight", "bias"),
              (array(model.head.weight), array(model.head.bias)))  # fmt: skip
    return EqxNet(lstm, gru, norm, out, fault)


def turned(x):
    """i f g o as i f o g."""
    parts = x.reshape(4, HIDDEN, -1)[[0, 1, 3, 2]]
    return parts.reshape(x.shape)


def pair(seed: int, fault: str) -> dict:
    model = randomise(Net(), seed)
    x_BTI = normal(seed, BATCH, TIME, GIVEN)
    right = jax.vmap(port(model, fault))
    given = {"left": model, "right": right, "inputs": [x_BTI]}
    if fault == "time and batch exchanged":
        x_TBI = x_BTI[:, :BATCH].swapaxes(0, 1)
        return given | {"inputs": [x_BTI[:, :BATCH]], "right_inputs": [x_TBI]}
    return given


NETWORK = Network(
    "recurrent cells",
    "torch, equinox",
    pair,
    [
        Fault("gates in the order i f o g", "lstm", ("parameter",),
              ISSUES.format("keras-team/keras", 3088)),
        Fault("one of two biases", "lstm", ("parameter",), ISSUES.format("google/flax", 3746)),
        Fault("forget bias of 1", "lstm", ("parameter",),
              ISSUES.format("tensorflow/tensorflow", 29622)),
        Fault("hidden and cell state exchanged", "model", ("semantic",),
              "https://flax.readthedocs.io/en/stable/api_reference/flax.nnx/nn/recurrent.html"),
        Fault("reset before the product", "gru", ("semantic",),
              PULLS.format("tracel-ai/burn", 2704)),
        Fault("sequence the other way round", "model", ("semantic",),
              ISSUES.format("pytorch/pytorch", 18872)),
        Fault("hard tanh", "model", ("semantic",), ISSUES.format("keras-team/keras", 3701)),
        Fault("time and batch exchanged", "model", ("semantic",),
              "https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html"),
    ],
)  # fmt: skip
