"""Trainer: one step, one evaluation, and a state that either wing can take over.

Axes: B batch, T routing iterations, I input capsules, J classes, D size of a pose, H W C image.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from parity import schedule
from parity import weights as canonical
from parity.spec import Method, NetworkSpec, TrainingSpec, check_labels, check_targets
from torch_caps import arrays, tracing
from torch_caps.networks import Network, build
from torch_caps.numerics import compiled
from torch_caps.processes import Group

# slot of the canonical state -> torch's own key in an optimiser's state
SLOTS = {
    "adam.m": "exp_avg",
    "adam.v": "exp_avg_sq",
    "sgd.momentum": "momentum_buffer",
    canonical.AVERAGE: "average",  # torch leaves keys that it does not know alone
}


def _make_optimizer(training: TrainingSpec, parameters: list[Tensor]) -> torch.optim.Optimizer:
    """The optimiser of a training spec; the rate is set each step."""
    rate, betas = training.learning_rate, (training.beta1, training.beta2)
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, momentum=training.momentum, dampening=0.0, weight_decay=0.0,
            nesterov=False,
        )  # fmt: skip
    if training.optimizer == "adamw":
        return torch.optim.AdamW(
            parameters, lr=rate, betas=betas, eps=training.epsilon,
            weight_decay=training.weight_decay, amsgrad=False, fused=True,
        )  # fmt: skip
    return torch.optim.Adam(
        parameters, lr=rate, betas=betas, eps=training.epsilon, weight_decay=0.0, amsgrad=False,
        fused=True,
    )  # fmt: skip


def clip(gradients: list[Tensor], norm: float) -> None:
    """Scales gradients in place to a norm over all elements of at most `norm`."""
    total = torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum().sqrt()
    factor = norm / torch.where(total > norm, total, norm)
    for gradient in gradients:
        gradient.mul_(factor)


def average(averages: Sequence[Tensor], parameters: Sequence[Tensor], decay: float) -> None:
    """Moves each average in place towards its parameter, by 1 - decay of the way."""
    for mean, parameter in zip(averages, parameters, strict=True):
        mean.lerp_(parameter, 1 - decay)


# The loss of a training step, its accuracy, and the state that it leaves.
_Step = tuple[Tensor, Tensor, dict[str, Tensor]]


class _Loss(nn.Module):
    """A network whose call is its loss: DistributedDataParallel wraps what is called."""

    def __init__(self, net: Network, loss: Callable[..., _Step]):
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, **batch: Any) -> _Step:
        return self.loss(**batch)


class Trainer:
    """Trains a network by the same steps as the JAX wing's.

    Sets strict numerics for the process, as building a network does.

    Args:
        spec: What the network is.
        training: How it is trained: optimiser, rates, seed, precision.
        device: A torch device, "cpu" or "cuda".
        compile: Whether to run the network through torch.compile.
        lean: As in `CapsuleNetwork`; the mathematics stays the same.
        block: Input capsules a block of lean routing.
        convolution: As in `CapsuleNetwork`.
        group: Of `processes.join`, to train with its other processes. Each then gives its own rows
            of a batch to `step` and `evaluate`, and all get the result of the whole batch.
    """

    def __init__(
        self,
        spec: NetworkSpec,
        training: TrainingSpec,
        *,
        device: str = "cpu",
        compile: bool = False,
        lean: bool = True,
        block: int | None = None,
        convolution: Method = "auto",
        group: Group | None = None,
    ):
        self.spec, self.training, self.group = spec, training, group
        device = device if group is None else group.device
        how = lean, block, convolution
        net = build(spec, training.seed, training.precision, *how)
        self._net = net.to(device)
        self.device, self.step_count = device, 0
        self.loss: Callable[..., _Step] = self._loss
        if compile:
            self.loss = compiled(self._loss)
        if group is not None:
            for layer in net.convolutions().values():
                layer.processes = group.shares
            # It also hands on the first one's state, which is the same in all of them.
            self.loss = nn.parallel.DistributedDataParallel(_Loss(self.net, self.loss))
        self._kinds = canonical.kinds(training.optimizer, training.ema)
        self._state = canonical.state(spec)
        self._slots = canonical.first_slots(self._kinds, arrays.to_numpy(net), self._state)

    @property
    def net(self) -> Network:
        """The network with the present weights."""
        return self._net

    @functools.cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        """The optimiser with its slots, made when first needed.

        torch's imports its compiler, for which who only evaluates need not wait.
        """
        optimizer = _make_optimizer(self.training, list(self.net.parameters()))
        for name, parameter, orders in arrays.parameters(self.net):
            state = optimizer.state[parameter]
            state["step"] = torch.tensor(float(self.step_count), device=parameter.device)
            for slot in self._kinds_of(name):
                value = arrays.from_canonical(self._slots.pop(f"{slot}/{name}"), orders)
                state[SLOTS[slot]] = torch.empty_like(parameter).copy_(value)
        return optimizer

    def step(
        self, images_BHWC: np.ndarray, targets: np.ndarray, parts: Any = None
    ) -> dict[str, float]:
        """Trains on one batch: one step of the optimiser.

        Args:
            images_BHWC: Floating, in 0 to 1; with a group, this process's rows of the batch.
            targets: Integer labels [B], or 0/1 [B, J] where several classes may be present.
            parts: What each image is made of, as in `Network.terms`.

        Returns:
            `loss` and `accuracy` of the whole batch before the step, and the `learning_rate`.

        Raises:
            SpecError: If images, targets or parts do not fit the network.
        """
        batch = self._batch(images_BHWC, targets, parts)
        rate = schedule.learning_rate(self.training, self.step_count)
        # The rate of this step, from the schedule: torch's own schedulers are not used.
        for group in self._optimizer.param_groups:
            group["lr"] = rate
            if self.training.epsilon_hat and "eps" in group:
                # sqrt(v) + eps before the bias correction c is sqrt(v / c) + eps / sqrt(c) after it
                correction = 1 - self.training.beta2 ** (self.step_count + 1)
                group["eps"] = self.training.epsilon / correction**0.5
        margin = schedule.margin(self.training, self.spec.loss, self.step_count)
        if margin is not None:
            like = next(self.net.parameters())
            batch["margin"] = torch.tensor(margin, dtype=like.dtype, device=like.device)
        loss, accuracy, state = self.loss(**batch)
        self._optimizer.zero_grad()
        loss.backward()
        if self.training.clip_norm is not None:
            gradients = [
                parameter.grad for parameter in self.net.parameters() if parameter.grad is not None
            ]
            clip(gradients, self.training.clip_norm)
        if self.training.l2 > 0:
            self._decay()
        self._optimizer.step()
        self._keep(state)
        if self.training.ema is not None:
            self._average(self.training.ema)
        self.step_count += 1
        means = {"loss": loss.detach(), "accuracy": accuracy}
        if self.group is not None:  # equal shares of the batch: the mean of the processes' means
            sums = self._summed(means)
            means = {name: total / self.group.count for name, total in sums.items()}
        return {**{name: mean.item() for name, mean in means.items()}, "learning_rate": rate}

    @torch.no_grad()
    def evaluate(
        self,
        images_BHWC: np.ndarray,
        targets: np.ndarray,
        weights_B: np.ndarray,
        parts: Any = None,
    ) -> dict[str, float]:
        """Weighted sums of `loss`, `correct` and `count`; padding has weight 0."""
        terms = self.net.terms(**self._batch(images_BHWC, targets, parts))
        weight = arrays.given(weights_B).to(terms["classes"])
        loss = terms["classes"]
        if "reconstruction" in terms:
            loss = loss + self.spec.loss.reconstruction * terms["reconstruction"]
        sums = {
            "loss": (weight * loss).sum(),
            "correct": (weight * terms["correct"]).sum(),
            "count": weight.sum(),
        }
        if self.group is not None:
            sums = self._summed(sums)
        return {name: value.item() for name, value in sums.items()}

    @torch.no_grad()
    def poses(self, images_BHWC: np.ndarray) -> np.ndarray:
        """The class capsules of images [B, H, W, C], as a call of the network: [B, J, D]."""
        return arrays.numpy(self.net(images_BHWC))

    @torch.no_grad()
    def scores(self, images_BHWC: np.ndarray) -> np.ndarray:
        """What accuracy ranks, lengths or activations of the class capsules: [B, J]."""
        return arrays.numpy(self.net.scores(images_BHWC))

    @torch.no_grad()
    def couplings(self, images_BHWC: np.ndarray) -> np.ndarray:
        """The routing coefficients of each iteration: [T, B, I, J]."""
        couplings: list[Tensor] = []

        def tap(name: str, x: Tensor) -> Tensor:
            if name.startswith("routing.") and name.endswith(".coupling"):
                couplings.append(x)
            return x

        self.net(images_BHWC, tap)
        return arrays.numpy(torch.stack(couplings))

    @torch.no_grad()
    def reconstruct(self, poses_BJD: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The decoder's images from the capsules of the labels, as the network's."""
        check_labels(arrays.concrete(labels), self.spec.classes)
        poses = arrays.given(poses_BJD).to(next(self.net.parameters()))
        return arrays.numpy(self.net.reconstruct(poses, labels))

    def trace(
        self, images_BHWC: np.ndarray, targets: np.ndarray, parts: Any = None
    ) -> tuple[canonical.Arrays, canonical.Arrays]:
        """Every tensor of a step with the present weights, as of `tracing.trace`."""
        parts = None if parts is None else self.net.parts(parts, len(images_BHWC))
        return tracing.trace(self.net, images_BHWC, targets, parts)

    def get_state(self) -> dict[str, Any]:
        """Copies of `step`, `weights` and `optimizer` (its slots), all canonical."""
        return {
            "step": self.step_count,
            "weights": arrays.to_numpy(self.net),
            "optimizer": {
                f"{slot}/{name}": arrays.to_canonical(
                    self._state_of(parameter)[SLOTS[slot]], orders
                )
                for slot in self._kinds
                for name, parameter, orders in arrays.parameters(self.net)
                if slot in self._kinds_of(name)
            },
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of either wing; raises WeightsError before any change."""
        rows = canonical.slots(self.spec, self.training.optimizer, self.training.ema)
        # Slots and weights are checked before anything changes.
        canonical.check(state["optimizer"], rows, "optimizer state")
        arrays.from_numpy(self.net, state["weights"])
        self.step_count = int(state["step"])
        self._slots = {name: np.array(slot) for name, slot in state["optimizer"].items()}
        self.__dict__.pop("_optimizer", None)  # made of these by the next step

    def _kinds_of(self, name: str) -> tuple[str, ...]:
        """The slots of a parameter; of state at most an average."""
        moved = name not in self._state
        return tuple(kind for kind in self._kinds if moved or kind == canonical.AVERAGE)

    def _loss(self, **batch: Any) -> _Step:
        total = None if self.group is None else self.group.total
        terms = self.net.terms(**batch, train=True, total=total)
        return *self.net.weigh(terms), terms["state"]

    @torch.no_grad()
    def _keep(self, state: Mapping[str, Tensor]) -> None:
        for name, buffer in self.net.named_buffers():
            buffer.copy_(state[name])

    @torch.no_grad()
    def _decay(self) -> None:
        """Adds l2 times each parameter that decays to its gradient."""
        for name, parameter in self.net.named_parameters():
            if parameter.grad is not None and self.training.decays(name):
                parameter.grad.add_(parameter, alpha=self.training.l2)

    def _state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        return self._optimizer.state[parameter]

    @torch.no_grad()
    def _average(self, decay: float) -> None:
        parameters = [*self.net.parameters(), *self.net.buffers()]
        key = SLOTS[canonical.AVERAGE]
        average([self._state_of(parameter)[key] for parameter in parameters], parameters, decay)

    def _summed(self, numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The sum of each number over the processes."""
        totals = torch.stack(list(numbers.values()))  # in one exchange
        dist.all_reduce(totals)
        return dict(zip(numbers, totals, strict=True))

    def _batch(self, images: np.ndarray, targets: np.ndarray, parts: Any) -> dict[str, Any]:
        check_targets(arrays.concrete(targets), self.spec.classes, len(images))
        return {
            "images_BHWC": self.net.images(images),
            "targets": arrays.given(targets).to(self.device),
            "parts": None if parts is None else self.net.parts(parts, len(images)),
        }
