"""Public code of the same network, read from a folder when it is measured: see docs/speed.md.

Each step is the peer's network and optimiser on a batch of random images. Where a peer's loss
stands in a script that cannot be imported, the losses are ours.
"""

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Run, digit_arrays, pictures

# folder, by its author -> the file that is measured
PEERS = {
    "arogozhnikov": "capsnet.py",
    "adambielski": "net.py",
    "XifengGuo": "capsulenet.py",
}


def split(folder: Path | None) -> tuple[dict[str, str], list[str]]:
    """The folders of the peers that are there, and the files that are not."""
    if folder is None:
        return {}, []
    paths = {name: folder / name / file for name, file in PEERS.items()}
    there = {name: str(path.parent.resolve()) for name, path in paths.items() if path.is_file()}
    return there, [str(path) for name, path in paths.items() if name not in there]


def load(name: str, folder: str) -> Any:
    """The module of a peer, which gets an empty torchvision where none is installed."""
    sys.path.insert(0, folder)
    if importlib.util.find_spec("torchvision") is None:
        for part in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            sys.modules[part] = types.ModuleType(part)
        for part in ("transforms", "datasets"):
            setattr(sys.modules["torchvision"], part, sys.modules[f"torchvision.{part}"])
    if name == "XifengGuo":  # its routing asks for a GPU by name
        importlib.import_module("torch").Tensor.cuda = lambda tensor: tensor
    return importlib.import_module(Path(PEERS[name]).stem)


def step(peer: str, folder: str, name: str, batch: int) -> Run:
    """A training step of the paper's network."""
    torch, module = importlib.import_module("torch"), load(peer, folder)
    functional, losses = torch.nn.functional, importlib.import_module("torch_caps.losses")
    drawn = pictures(name, batch)
    images = torch.from_numpy((drawn.images / np.float32(255)).transpose(0, 3, 1, 2).copy())
    labels = torch.from_numpy(drawn.labels)
    one_hot = functional.one_hot(labels, 10).float()
    loss: Callable[[], Any]
    if peer == "arogozhnikov":
        nets = [module.Encoder(28, 28, 1, 32, 8, 10, 16), module.Decoder(10, 16, 28, 28, 1)]

        def loss() -> Any:
            poses = nets[0](images)
            drawn = nets[1](poses * one_hot[:, :, None])
            margin = losses.margin(poses.norm(dim=2), labels)
            return margin + 10 * functional.mse_loss(drawn, images)

    elif peer == "adambielski":
        # Its routing iterations come after a first weighted sum: 2 of them are the paper's 3.
        parts = module.CapsNet(2), module.ReconstructionNet()
        nets, margin = [module.CapsNetWithReconstruction(*parts)], module.MarginLoss(0.9, 0.1, 0.5)

        def loss() -> Any:
            drawn, lengths = nets[0](images, labels)
            return margin(lengths, labels) + 0.0005 * functional.mse_loss(drawn, images.flatten(1))

    else:
        nets = [module.CapsuleNet([1, 28, 28], 10, 3)]

        def loss() -> Any:
            lengths, drawn = nets[0](images, one_hot)
            return module.caps_loss(one_hot, lengths, images, drawn, 0.392)

    adam = torch.optim.Adam([each for net in nets for each in net.parameters()])

    def run() -> float:
        adam.zero_grad()
        value = loss()
        value.backward()
        adam.step()
        return value.item()

    return run


def digit(peer: str, folder: str, name: str, batch: int) -> Run:
    """The digit layer alone, three iterations, forward and backward to its inputs and weights."""
    torch, module = importlib.import_module("torch"), load(peer, folder)
    inputs, _, gradient = map(torch.from_numpy, digit_arrays(name, batch))
    sizes = *inputs.shape[1:], *gradient.shape[1:]
    if peer == "arogozhnikov":
        layer = module.CapsuleLayerWithRouting(*sizes)
        arguments = (3,)
    elif peer == "adambielski":
        layer = module.CapsLayer(*sizes, module.AgreementRouting(sizes[0], sizes[2], 2))
        arguments = ()
    else:
        layer, arguments = module.DenseCapsule(*sizes, routings=3), ()
    towards = [inputs.requires_grad_(), *layer.parameters()]

    def run() -> Any:
        poses = layer(inputs, *arguments)
        return torch.autograd.grad(poses, towards, gradient, allow_unused=True)

    return run
