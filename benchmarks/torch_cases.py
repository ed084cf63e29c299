"""What is measured of the torch wing; each function builds a case and gives what runs it.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import torch_caps
from benchmarks import arrays, textbook, training
from benchmarks.contract import Run
from parity.spec import NetworkSpec, Precision, from_dict
from torch_caps import convolution, lean, routing
from torch_caps.numerics import compiled, dtypes

Layer = Callable[..., Tensor]


def plain(inputs_BIK: Tensor, kernel_IJKD: Tensor, *, num_iters: int = 3) -> Tensor:
    """The digit layer whose votes are stored."""
    votes_BIJD = torch_caps.votes(inputs_BIK, kernel_IJKD)
    return routing.dynamic(votes_BIJD, num_iters=num_iters)[0]


def layer(variant: str) -> Layer:
    """A digit layer by name: textbook, plain or lean, "compiled" after it for torch.compile."""
    name, _, how = variant.partition(" ")
    found = {"textbook": textbook.dynamic, "plain": plain, "lean": lean.dynamic}[name]
    return compiled(found) if how == "compiled" else found


def forget() -> None:
    """Drop what torch.compile holds: the next sizes are compiled for themselves."""
    torch.compiler.reset()


def digit(variant: str, spec: Any, batch: int, inputs: int, num_iters: int, backward: bool) -> Run:
    """The digit layer forward, or forward and backward to its inputs and its kernel."""
    call = layer(variant)
    network = from_dict(NetworkSpec, spec)
    inputs_BIK, kernel, gradient = map(torch.from_numpy, arrays.digit(network, batch, inputs))

    def forward() -> None:
        with torch.no_grad():
            call(inputs_BIK, kernel, num_iters=num_iters)

    def both() -> None:
        poses_BJD = call(inputs_BIK, kernel, num_iters=num_iters)
        torch.autograd.grad(poses_BJD, (inputs_BIK, kernel), gradient)

    if backward:
        inputs_BIK.requires_grad_()
        kernel.requires_grad_()
    return both if backward else forward


def temporaries(**options: Any) -> None:
    """torch does not know beforehand what a layer will need."""


def digit_step(variant: str, spec: Any, batch: int, inputs: int, num_iters: int) -> Run:
    """A training step of a digit layer alone: forward, backward, Adam on its kernel."""
    call = layer(variant)
    network = from_dict(NetworkSpec, spec)
    inputs_BIK, kernel, gradient = map(torch.from_numpy, arrays.digit(network, batch, inputs))
    inputs_BIK.requires_grad_()
    kernel.requires_grad_()
    optimizer = torch.optim.Adam([kernel], lr=1e-3, fused=True)

    def run() -> None:
        inputs_BIK.grad = kernel.grad = None
        call(inputs_BIK, kernel, num_iters=num_iters).backward(gradient)
        optimizer.step()

    return run


def conv(spec: Any, batch: int, precision: Precision, backward: bool) -> Run:
    """The primary convolution forward, or forward and backward to its input and its kernel."""
    network = from_dict(NetworkSpec, spec)
    x_BHWC, kernel = map(torch.from_numpy, arrays.features(network, batch))
    kernel = kernel.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
    stride, compute = network.primary.stride, dtypes(precision)[1]

    def forward() -> None:
        with torch.no_grad():
            convolution.conv(x_BHWC, kernel, stride, compute)

    def both() -> None:
        y = convolution.conv(x_BHWC, kernel, stride, compute)
        torch.autograd.grad(y, (x_BHWC, kernel), gradient)

    gradient = torch.ones_like(convolution.conv(x_BHWC, kernel, stride, compute))
    if backward:
        x_BHWC.requires_grad_()
        kernel.requires_grad_()
    return both if backward else forward


def convolutions(spec: Any, batch: int, images: int) -> Run:
    """Every convolution of a network forward, on as many batches as hold `images`."""
    network = from_dict(NetworkSpec, spec)
    net = torch_caps.CapsuleNetwork(network)
    names = [*(f"stem.{n}" for n in range(len(network.stem))), "primary"]
    held = [net.get_parameter(f"{name}.kernel") for name in names]
    strides = [*(each.stride for each in network.stem), network.primary.stride]
    x_BHWC = torch.from_numpy(arrays.images(network, batch).images).float() / 255
    calls = -(-images // batch)

    @torch.no_grad()
    def run() -> None:
        for _ in range(calls):
            x = x_BHWC
            for kernel, stride in zip(held, strides, strict=True):
                x = convolution.conv(x, kernel, stride, x.dtype)

    return run


def product(size: int, dtype: str) -> Run:
    """A product of two square matrices."""
    a, b = (torch.rand(size, size).to(getattr(torch, dtype)) for _ in range(2))

    def run() -> None:
        torch.mm(a, b)

    return run


def copy(mib: int) -> Run:
    """A copy of memory; it reads and writes that much."""
    source = torch.ones(mib * 2**20 // 4)
    target = torch.zeros_like(source)

    def run() -> None:
        target.copy_(source)

    return run


# A whole training step, an evaluation of many images, an epoch of the training loop.
step = partial(training.step, torch_caps.Trainer)
evaluate = partial(training.evaluate, torch_caps.Trainer)
loop = partial(training.loop, torch_caps.Trainer)
batches = training.make_batches
