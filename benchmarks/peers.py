"""Public code of the same networks, read from a folder when it is measured: see docs/speed.md.

Each step is the peer's network on a batch of random images, with torch's optimiser of the preset.
Where a peer's loss stands in a script that cannot be imported, the losses are ours.
"""

import importlib
import importlib.util
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.cases import Run, digit_arrays, pictures
from parity.spec import preset_card

# folder, by its author -> the file that is measured, and the presets whose network it is
PEERS = {
    "arogozhnikov": ("capsnet.py", ("sabour2017",)),
    "adambielski": ("net.py", ("sabour2017",)),
    "XifengGuo": ("capsulenet.py", ("sabour2017",)),
    "coder3000": ("models/resnet.py", ("selfrouting2019", "selfrouting2019-2")),
    "yl-1993": ("model/capsules.py", ("hinton2018-mnist",)),
    "fabio-deep": ("src/capsnet.py", ("ribeiro2020",)),
    "apple": ("src/capsule_model.py", ("tsai2020",)),
}

Loss = Callable[[Any, Any], tuple[Any, Any]]


def split(folder: Path | None) -> tuple[dict[str, str], list[str]]:
    """The folders of the peers that are there, and the files that are not."""
    if folder is None:
        return {}, []
    paths = {name: folder / name / file for name, (file, _) in PEERS.items()}
    there = {name: str((folder / name).resolve()) for name, path in paths.items() if path.is_file()}
    return there, [str(path) for name, path in paths.items() if name not in there]


def load(name: str, folder: str) -> Any:
    """The module of a peer, which gets an empty torchvision where none is installed."""
    file = Path(PEERS[name][0])
    sys.path[:0] = [folder, str(Path(folder) / file.parent)]
    if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
        for part in ("torchvision", "torchvision.transforms", "torchvision.datasets"):
            sys.modules[part] = types.ModuleType(part)
        for part in ("transforms", "datasets"):
            setattr(sys.modules["torchvision"], part, sys.modules[f"torchvision.{part}"])
    torch: Any = importlib.import_module("torch")
    if name in ("XifengGuo", "yl-1993", "fabio-deep"):  # they ask for a GPU by name
        torch.Tensor.cuda, torch.cuda.FloatTensor = lambda tensor: tensor, torch.FloatTensor
    if name == "apple":  # it takes views of what einsum makes, which is no longer contiguous
        einsum = torch.einsum
        torch.einsum = lambda *parts: einsum(*parts).contiguous()
    return importlib.import_module(".".join(file.with_suffix("").parts))


def network(peer: str, folder: str, name: str) -> tuple[list[Any], Loss]:
    """Its modules, and their loss and scores of images [B, C, H, W] and labels [B]."""
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
    if peer == "XifengGuo":
        net = module.CapsuleNet([1, 28, 28], 10, 3)

        def loss(images: Any, labels: Any) -> tuple[Any, Any]:
            one_hot = functional.one_hot(labels, 10).float()
            lengths, drawn = net(images, one_hot)
            return module.caps_loss(one_hot, lengths, images, drawn, 0.392), lengths

        return [net], loss
    return _scored(peer, Path(folder), name, module)


def _scored(peer: str, folder: Path, name: str, module: Any) -> tuple[list[Any], Loss]:
    """A peer whose network makes scores alone, and whose loss is of them."""
    functional = importlib.import_module("torch").nn.functional
    of_scores = functional.cross_entropy
    if peer == "coder3000":
        depth = 2 if name == "selfrouting2019-2" else 1
        net = module.resnet20(16, {"channels": 3, "classes": 10}, 32, 16, depth, "SR")
        of_scores = functional.nll_loss
    elif peer == "yl-1993":
        net = module.capsules(A=64, B=8, C=16, D=16, E=10)
        spread = importlib.import_module("loss").SpreadLoss(num_class=10)
        of_scores = lambda scores, labels: spread(scores, labels, 0.5)  # noqa: E731
    elif peer == "fabio-deep":
        sizes = {"pose_dim": 4, "arch": [64, 8, 16, 16, 5], "n_channels": 2, "routing_iter": 3}
        net = module.CapsuleNet(types.SimpleNamespace(**sizes))
    else:
        sizes = json.loads((folder / "configs/resnet_backbone_CIFAR10.json").read_text())
        net = module.CapsModel(32, sizes, "resnet", 0.0, 2, sequential_routing=False)

    def loss(images: Any, labels: Any) -> tuple[Any, Any]:
        scores = net(images)
        scores = scores[0] if isinstance(scores, tuple) else scores  # and poses
        return of_scores(scores, labels), scores

    return [net], loss


def drawn(name: str, count: int) -> tuple[Any, Any]:
    """Images [count, C, H, W] of random bytes, and their labels."""
    torch, split = importlib.import_module("torch"), pictures(name, count)
    images = (split.images / np.float32(255)).transpose(0, 3, 1, 2).copy()
    return torch.from_numpy(images), torch.from_numpy(split.labels)


def step(peer: str, folder: str, name: str, batch: int) -> Run:
    """A training step, with an Adam, or with momentum where the preset has it."""
    torch, (nets, loss) = importlib.import_module("torch"), network(peer, folder, name)
    images, labels = drawn(name, batch)
    parameters = [each for net in nets for each in net.parameters()]
    optimizer = torch.optim.Adam(parameters)
    if preset_card(name).training.optimizer == "sgd":
        optimizer = torch.optim.SGD(parameters, 1e-3, momentum=0.9)

    def run() -> float:
        optimizer.zero_grad()
        value = loss(images, labels)[0]
        value.backward()
        optimizer.step()
        return value.item()

    return run


def evaluate(peer: str, folder: str, name: str, batch: int, images: int) -> Run:
    """The loss and accuracy of many images."""
    torch, (nets, loss) = importlib.import_module("torch"), network(peer, folder, name)
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
