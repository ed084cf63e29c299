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
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for part in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            sys.modules[part] = types.ModuleType(part)
        for part in ("transforms", "datasets"):
            setattr(sys.modules["torchvision"], part, sys.modules[f"torchvision.{part}"])
    if name == "XifengGuo":  # its routing asks for a GPU by name
        importlib.import_module("torch").Tensor.cuda = lambda tensor: tensor
    return importlib.import_module(Path(PEERS[name]).stem)


def network(peer: str, folder: str) -> tuple[list[Any], Callable[[Any, Any], tuple[Any, Any]]]:
    """Its modules, and their loss and lengths of images [B, 1, 28, 28] and labels [B]."""
    torch, module = importlib.import_module("torch"), load(peer, folder)
    functional, losses = torch.nn.functional, importlib.import_module("torch_caps.losses")
    if peer == "arogozhnikov":
        encoder = module.Encoder(28, 28, 1, 32, 8, 10, 16)
        decoder = module.Decoder(10, 16, 28, 28, 1)

        def loss(images: Any, labels: Any) -> tuple[Any, Any]:
            poses = encoder(images)
            lengths = poses.norm(dim=2)
            drawn = decoder(poses * functional.one_hot(labels, 10)[:, :, None])
            return losses.margin(lengths, labels) + 10 * functional.mse_loss(drawn, images), lengths

        return [encoder, decoder], loss
    if peer == "adambielski":
        # Its routing iterations come after a first weighted sum: 2 of them are the paper's 3.
        net = module.CapsNetWithReconstruction(module.CapsNet(2), module.ReconstructionNet())
        margin = module.MarginLoss(0.9, 0.1, 0.5)

        def loss(images: Any, labels: Any) -> tuple[Any, Any]:
            drawn, lengths = net(images, labels)
            mse = functional.mse_loss(drawn, images.flatten(1))
            return margin(lengths, labels) + 0.0005 * mse, lengths

        return [net], loss
    net = module.CapsuleNet([1, 28, 28], 10, 3)

    def loss(images: Any, labels: Any) -> tuple[Any, Any]:
        one_hot = functional.one_hot(labels, 10).float()
        lengths, drawn = net(images, one_hot)
        return module.caps_loss(one_hot, lengths, images, drawn, 0.392), lengths

    return [net], loss


def drawn(name: str, count: int) -> tuple[Any, Any]:
    """Images [count, 1, 28, 28] of random bytes, and their labels."""
    torch, split = importlib.import_module("torch"), pictures(name, count)
    images = (split.images / np.float32(255)).transpose(0, 3, 1, 2).copy()
    return torch.from_numpy(images), torch.from_numpy(split.labels)


def step(peer: str, folder: str, name: str, batch: int) -> Run:
    """A training step of the paper's network."""
    torch, (nets, loss) = importlib.import_module("torch"), network(peer, folder)
    images, labels = drawn(name, batch)
    adam = torch.optim.Adam([each for net in nets for each in net.parameters()])

    def run() -> float:
        adam.zero_grad()
        value = loss(images, labels)[0]
        value.backward()
        adam.step()
        return value.item()

    return run


def evaluate(peer: str, folder: str, name: str, batch: int, images: int) -> Run:
    """The loss and accuracy of many images."""
    torch, (nets, loss) = importlib.import_module("torch"), network(peer, folder)
    pairs = list(zip(*(part.split(batch) for part in drawn(name, images)), strict=True))
    for net in nets:
        net.eval()

    def run() -> tuple[float, int]:
        total, right = 0.0, 0
        with torch.no_grad():
            for part, labels in pairs:
                value, lengths = loss(part, labels)
                total += value.item() * len(labels)
                right += int((lengths.argmax(1) == labels).sum())
        return total / images, right

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
