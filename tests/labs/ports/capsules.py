"""Our capsule network against one written as public code writes it: torch and torch.

Axes: B batch, I input capsules, J output capsules, K and D sizes of poses.
"""

import torch
from torch import nn

import torch_caps
from parity import diff
from parity.spec import Conv, NetworkSpec, Primary
from ports.row import ISSUES, Fault, Network, normal

SPEC = NetworkSpec(
    image=(17, 13, 2),
    stem=(Conv(5, 3),),
    primary=Primary(types=3, size=7, kernel=3, stride=2),
    classes=11,
    pose=5,
    decoder=(),
)


class Primary_(nn.Module):  # noqa: N801 (Primary is the spec's)
    def __init__(self, fault):
        super().__init__()
        self.conv, self.fault = nn.Conv2d(5, 21, 3, stride=2), fault

    def forward(self, x):
        x = self.conv(x)
        if self.fault == "capsules of neighbouring pixels":
            poses = x.reshape(x.shape[0], -1, 7)
        else:
            B, _, H, W = x.shape
            poses = x.view(B, 3, 7, H, W).permute(0, 3, 4, 1, 2).reshape(B, -1, 7)
        axis = 1 if self.fault == "squash over the capsules" else -1
        return diff.record("squashed", squash(poses, axis, self.fault))


def squash(s, axis, fault):
    square = (s * s).sum(axis, keepdim=True)
    epsilon = 1e-3 if fault == "an epsilon in the squash" else 0
    return s * square / (1 + square) / (square.sqrt() + epsilon)


class Digits(nn.Module):
    def __init__(self, count, fault):
        super().__init__()
        self.weight, self.fault = nn.Parameter(torch.zeros(count, 11, 7, 5)), fault

    def forward(self, u_BIK):
        votes = diff.record("votes", torch.einsum("bik,ijkd->bijd", u_BIK, self.weight))
        logits = torch.zeros_like(votes[..., 0])
        for t in range(2 if self.fault == "an iteration too few" else 3):
            axis = 1 if self.fault == "softmax over the input capsules" else 2
            c = diff.record("couplings", logits.softmax(axis))
            s = (c[..., None] * votes).sum(1)
            v = diff.record("poses", squash(s, -1, ""))
            if t < 2:
                against = s[:, None] if self.fault == "agreement with the sum" else votes
                logits = logits + (against * v[:, None]).sum(-1)
        return v


class Net(nn.Module):
    def __init__(self, fault):
        super().__init__()
        self.stem, self.primary = nn.Conv2d(2, 5, 3), Primary_(fault)
        self.digits = Digits(7 * 5 * 3, fault)

    def forward(self, images_BCHW):
        return self.digits(self.primary(torch.relu(self.stem(images_BCHW))))


def pair(seed: int, fault: str) -> dict:
    ours, theirs = (
        torch_caps.CapsuleNetwork(SPEC, seed=seed, precision="float64", lean=False),
        Net(fault).double(),
    )
    rows = torch_caps.weights.to_numpy(ours)
    # At first the weights are so small that routing hardly moves.
    rows = {name: 3 * row for name, row in rows.items()}
    torch_caps.weights.from_numpy(ours, rows)
    for row, parameter, axes in (
        ("stem.0.kernel", theirs.stem.weight, (3, 2, 0, 1)),
        ("stem.0.bias", theirs.stem.bias, (0,)),
        ("primary.kernel", theirs.primary.conv.weight, (3, 2, 0, 1)),
        ("primary.bias", theirs.primary.conv.bias, (0,)),
        ("digit.kernel", theirs.digits.weight, (0, 1, 2, 3)),
    ):
        parameter.data.copy_(torch.tensor(rows[row].transpose(axes).copy()))
    images = abs(normal(seed, 2, 17, 13, 2)) % 1
    return {
        "left": ours,
        "right": theirs,
        "inputs": [images],
        "right_inputs": [images.transpose(0, 3, 1, 2)],
        "left_call": lambda net, x: net(x, tap=diff.record),
    }


NETWORK = Network(
    "capsule network",
    "torch, torch",
    pair,
    [
        Fault("capsules of neighbouring pixels", "primary", ("semantic", "axis order"),
              ISSUES.format("gram-ai/capsule-networks", 10)),
        Fault("squash over the capsules", "primary", ("semantic",),
              ISSUES.format("cedrickchee/capsule-net-pytorch", 3)),
        Fault("an epsilon in the squash", "primary", ("semantic", "scale or offset"),
              ISSUES.format("cedrickchee/capsule-net-pytorch", 3)),
        Fault("softmax over the input capsules", "digit", ("semantic", "scale or offset"),
              ISSUES.format("gram-ai/capsule-networks", 10)),
        Fault("agreement with the sum", "digit", ("semantic",),
              ISSUES.format("naturomics/CapsNet-Tensorflow", 2)),
        Fault("an iteration too few", "digit", ("semantic",),
              ISSUES.format("naturomics/CapsNet-Tensorflow", 37)),
    ],
)  # fmt: skip
