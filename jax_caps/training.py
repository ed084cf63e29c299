"""Trainer: one step, one evaluation, and a state that either wing can take over.

Axes: B batch, T routing iterations, I input capsules, J classes, D size of a pose, H W C image.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax
from jax.sharding import PartitionSpec

from jax_caps import arrays, fourier, tracing
from jax_caps.convolution import chosen
from jax_caps.networks import Network, build
from jax_caps.numerics import compiled
from jax_caps.processes import Group
from parity import schedule
from parity import weights as canonical
from parity.spec import (
    Method,
    NetworkSpec,
    TrainingSpec,
    check_images,
    check_labels,
    check_parts,
    check_targets,
)

# slot of the canonical state -> optax's own field in an optimiser's state
SLOTS = {"adam.m": "mu", "adam.v": "nu", "sgd.momentum": "trace"}


def _adam_direction(
    beta1: float, beta2: float, epsilon: float, epsilon_hat: bool
) -> optax.GradientTransformation:
    """optax.scale_by_adam with its bias corrections as accurate as torch's.

    optax computes 1 - beta**t in float32, which is off by 1.3e-5 at t = 1; with the logarithm
    taken in double, -expm1(t * log(beta)) is right to 2e-7. With `epsilon_hat`, epsilon is added
    to the root of the second moment before the correction: m / (sqrt(v) + epsilon), times
    sqrt(second) / first.
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        count = state.count + 1
        mu = optax.tree.update_moment(updates, state.mu, beta1, 1)
        nu = optax.tree.update_moment(updates, state.nu, beta2, 2)
        t = count.astype(jax.tree.leaves(updates)[0].dtype)
        first, second = (-jnp.expm1(t * math.log(beta)) for beta in (beta1, beta2))
        added = epsilon / jnp.sqrt(second) if epsilon_hat else epsilon
        direction = jax.tree.map(lambda m, v: (m / first) / (jnp.sqrt(v / second) + added), mu, nu)
        return direction, optax.ScaleByAdamState(count, mu, nu)

    def init(params: Any) -> optax.ScaleByAdamState:
        zeros = partial(jax.tree.map, jnp.zeros_like)
        count = jnp.zeros((), jnp.int32)
        return optax.ScaleByAdamState(count, zeros(params), zeros(params))

    return optax.GradientTransformation(init, update)


def _make_optimizer(training: TrainingSpec) -> optax.GradientTransformation:
    """The optimiser of a training spec; the rate is applied each step."""
    if training.optimizer == "sgd":
        return optax.trace(decay=training.momentum, nesterov=False)
    adam = _adam_direction(training.beta1, training.beta2, training.epsilon, training.epsilon_hat)
    if training.optimizer == "adamw":
        return optax.chain(adam, optax.add_decayed_weights(training.weight_decay))
    return adam


def clip(gradients: Any, norm: float) -> Any:
    """Gradients scaled to a norm over all elements of at most `norm`."""
    total = jnp.sqrt(sum((gradient * gradient).sum() for gradient in jax.tree.leaves(gradients)))
    factor = norm / jnp.where(total > norm, total, norm)
    return jax.tree.map(lambda gradient: gradient * factor, gradients)


def average(averages: Any, parameters: Any, decay: float) -> Any:
    """Each average moved towards its parameter, by 1 - decay of the way."""
    return jax.tree.map(lambda a, p: a + (1 - decay) * (p - a), averages, parameters)


class Trainer:
    """Trains a network by the same steps as the torch wing's.

    Sets strict numerics for the process, as building a network does.

    Args:
        spec: What the network is.
        training: How it is trained: optimiser, rates, seed, precision.
        device: "cpu" or "cuda".
        compile: Accepted for the torch wing's sake: this wing always runs under jax.jit.
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
        self.spec, self.training, self.group, self.step_count = spec, training, group, 0
        self.device = jax.local_devices(backend=device)[0]
        with jax.default_device(self.device):
            how = lean, block, convolution
            net = build(spec, training.seed, training.precision, *how)
            self.dtype = net.dtype
            for layer in net.convolutions().values():
                layer.processes = 1 if group is None else group.shares
            self.graph, params, state = nnx.split(net, nnx.Param, nnx.BatchStat)
            self.optimizer = _make_optimizer(training)
            slots = self.optimizer.init(params)
            whole = nnx.merge_state(params, state)
            averages = None if training.ema is None else jax.tree.map(jnp.copy, whole)
        kept = self._keep((params, state, slots, averages))
        self.params, self.state, self.slots, self.averages = kept
        # A step may overwrite the state it is given, which nobody needs afterwards.
        old = ("params", "state", "slots", "averages")
        self._step = compiled(self._shared(self._update, "batch"), donate_argnames=old)
        self._evaluate = compiled(self._shared(self._sums, "batch", "weights_B"))
        self._poses = compiled(
            lambda params, state, images: nnx.merge(self.graph, params, state)(images)
        )
        self._scores = compiled(
            lambda params, state, images: nnx.merge(self.graph, params, state).scores(images)
        )
        self._couplings = compiled(self._coupled)
        self._decode = compiled(self._decoded)
        self._transform = compiled(self._transformed, static_argnums=2)
        self._known: tuple[Any, int, dict[str, list[Array]]] | None = None

    @property
    def net(self) -> Network:
        """The network with the present weights."""
        return nnx.merge(self.graph, *self._weights())

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
        self._known = None  # spectra of weights that are about to change
        batch = self._batch(images_BHWC, targets, parts)
        rate = schedule.learning_rate(self.training, self.step_count)
        kept = self.params, self.state, self.slots, self.averages
        margin = schedule.margin(self.training, self.spec.loss, self.step_count)
        kept, loss, accuracy = self._step(*kept, batch, rate, margin)
        self.params, self.state, self.slots, self.averages = kept
        self.step_count += 1
        return {"loss": float(loss), "accuracy": float(accuracy), "learning_rate": rate}

    def evaluate(
        self,
        images_BHWC: np.ndarray,
        targets: np.ndarray,
        weights_B: np.ndarray,
        parts: Any = None,
    ) -> dict[str, float]:
        """Weighted sums of `loss`, `correct` and `count`; padding has weight 0."""
        batch = self._batch(images_BHWC, targets, parts)
        weights_B = self._own(np.asarray(weights_B, self.dtype))
        spectra = self._spectra(len(images_BHWC))
        sums = self._evaluate(self.params, self.state, batch, weights_B, spectra)
        return {name: float(value) for name, value in sums.items()}

    def poses(self, images_BHWC: np.ndarray) -> np.ndarray:
        """The class capsules of images [B, H, W, C], as a call of the network: [B, J, D]."""
        return arrays.numpy(self._poses(*self._weights(), self._placed(images_BHWC)))

    def scores(self, images_BHWC: np.ndarray) -> np.ndarray:
        """What accuracy ranks, lengths or activations of the class capsules: [B, J]."""
        return arrays.numpy(self._scores(*self._weights(), self._placed(images_BHWC)))

    def couplings(self, images_BHWC: np.ndarray) -> np.ndarray:
        """The routing coefficients of each iteration: [T, B, I, J]."""
        return arrays.numpy(self._couplings(*self._weights(), self._placed(images_BHWC)))

    def reconstruct(self, poses_BJD: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The decoder's images from the capsules of the labels, as the network's."""
        check_labels(arrays.concrete(labels), self.spec.classes)
        given = np.asarray(poses_BJD, self.dtype), np.asarray(labels, np.int32)
        placed = jax.device_put(given, self.device)
        return arrays.numpy(self._decode(*self._weights(), *placed))

    def trace(
        self, images_BHWC: np.ndarray, targets: np.ndarray, parts: Any = None
    ) -> tuple[canonical.Arrays, canonical.Arrays]:
        """Every tensor of a step with the present weights, as of `tracing.trace`."""
        batch = self._batch(images_BHWC, targets, parts)
        return tracing.trace(self.net, batch["images_BHWC"], batch["targets"], batch["parts"])

    def get_state(self) -> dict[str, Any]:
        """Copies of `step`, `weights` and `optimizer` (its slots), all canonical."""
        slots = self._local(self.slots)
        by_slot = {
            slot: arrays._by_name(optax.tree.get(slots, SLOTS[slot])) for slot in self._slots
        }
        if self.averages is not None:
            by_slot[canonical.AVERAGE] = arrays._by_name(self._local(self.averages))
        return {
            "step": self.step_count,
            "weights": arrays.to_numpy(self.net),
            "optimizer": {
                f"{slot}/{name}": arrays.to_canonical(by_slot[slot][name][...], orders)
                for slot in by_slot
                for name, orders in arrays.axes(self.spec).items()
                if name in by_slot[slot]
            },
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state of either wing; raises WeightsError before any change."""
        rows = canonical.slots(self.spec, self.training.optimizer, self.training.ema)
        # Slots and weights are checked before anything changes.
        canonical.check(state["optimizer"], rows, "optimizer state")
        net = self.net
        arrays.from_numpy(net, state["weights"])
        self.params, self.state = self._keep(nnx.split(net, nnx.Param, nnx.BatchStat)[1:])
        self.step_count = int(state["step"])
        new: dict[str, Any] = {
            SLOTS[slot]: self._structured(self.params, state["optimizer"], slot)
            for slot in self._slots
        }
        if "mu" in new:  # Adam's own count, which its bias corrections are of
            new["count"] = jnp.asarray(self.step_count, jnp.int32)
        self.slots = self._keep(optax.tree.set(self._local(self.slots), **new))
        if self.averages is not None:
            whole = nnx.merge_state(self.params, self.state)
            averages = self._structured(whole, state["optimizer"], canonical.AVERAGE)
            self.averages = self._keep(averages)

    @property
    def _slots(self) -> tuple[str, ...]:
        return canonical.SLOTS[self.training.optimizer]

    def _weights(self) -> tuple[Any, Any]:
        """Parameters and state as this process can use them alone."""
        return self._local(self.params), self._local(self.state)

    def _structured(self, like: Any, slots: Mapping[str, np.ndarray], slot: str) -> Any:
        orders = arrays.axes(self.spec)

        def value(path: tuple[Any, ...], parameter: nnx.Variable) -> nnx.Variable:
            name = ".".join(map(str, path))
            array = arrays.from_canonical(slots[f"{slot}/{name}"], orders[name])
            return parameter.replace(array.astype(self.dtype))

        return nnx.map_state(value, like)

    def _batch(self, images: np.ndarray, targets: np.ndarray, parts: Any) -> dict[str, Any]:
        if parts is not None:
            labels, part_images = parts
            check_parts(arrays.concrete(labels), part_images, len(images), self.spec)
            parts = np.asarray(labels, np.int32), np.asarray(part_images, self.dtype)
        check_images(images, self.spec)
        check_targets(arrays.concrete(targets), self.spec.classes, len(images))
        return self._own(
            {
                "images_BHWC": np.asarray(images, self.dtype),
                "targets": np.asarray(targets, np.int32),
                "parts": parts,
            }
        )

    def _placed(self, images: np.ndarray) -> Array:
        check_images(images, self.spec)
        return jax.device_put(np.asarray(images, self.dtype), self.device)

    def _own(self, rows: Any) -> Any:
        """This process's rows of a batch, on its devices."""
        if self.group is None:
            return jax.device_put(rows, self.device)
        place = partial(jax.make_array_from_process_local_data, self.group.split)
        return jax.tree.map(place, rows)

    def _keep(self, state: Any) -> Any:
        """A state on every device of the group.

        Placed by name: an array that only happens to lie there would compile the step again.
        """
        if self.group is None:
            return jax.device_put(state, self.device)
        whole = self.group.whole

        def place(array: Array) -> Array:
            values = np.asarray(array)
            return jax.make_array_from_callback(values.shape, whole, lambda index: values[index])

        return jax.tree.map(place, state)

    def _local(self, state: Any) -> Any:
        """The copy of what `_keep` placed that this process can use alone."""
        if self.group is None:
            return state
        return jax.tree.map(lambda array: array.addressable_data(0), state)

    def _shared(self, function: Callable[..., Any], *split: str) -> Callable[..., Any]:
        """The function, run by each device on its rows of the arguments named in `split`."""
        if self.group is None:
            return function
        whole, rows = PartitionSpec(), PartitionSpec("batch")
        names = inspect.signature(function).parameters
        assert set(split) <= set(names), split
        specs = tuple(rows if name in split else whole for name in names)
        # Each device runs the function of a single one, which names its collectives itself.
        return jax.shard_map(
            function, mesh=self.group.mesh, in_specs=specs, out_specs=whole, check_vma=False
        )

    def _update(
        self,
        params: Any,
        state: Any,
        slots: Any,
        averages: Any,
        batch: dict[str, Any],
        rate: Array,
        margin: Any,
    ):
        total = None if self.group is None else self.group.total

        # The loss of this device's rows, then the means over all: equal shares of the batch.
        def loss(params: Any) -> tuple[Array, tuple[Array, dict[str, Array]]]:
            net = nnx.merge(self.graph, params, state)
            terms = net.terms(**batch, train=True, total=total, margin=margin)
            value, accuracy = net.weigh(terms)
            return value, (accuracy, terms["state"])

        (value, (accuracy, new)), gradients = jax.value_and_grad(loss, has_aux=True)(params)
        # On a GPU, XLA folds decay * momentum into the convolution that makes a kernel's gradient,
        # with the decay rounded to float32: after ten float64 steps the losses were 1e-8 off.
        if self.training.precision == "float64":
            gradients = lax.optimization_barrier(gradients)
        if self.group is not None:
            value, accuracy, gradients = lax.pmean((value, accuracy, gradients), "batch")
        if self.training.clip_norm is not None:
            gradients = clip(gradients, self.training.clip_norm)
        if self.training.l2 > 0:
            gradients = self._decay(gradients, params)
        # optax gives a direction without rate and sign: the rate is this step's, from the schedule.
        direction, slots = self.optimizer.update(gradients, slots, params)
        params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
        state = nnx.map_state(lambda path, old: old.replace(new[".".join(map(str, path))]), state)
        if self.training.ema is not None:
            averages = average(averages, nnx.merge_state(params, state), self.training.ema)
        return (params, state, slots, averages), value, accuracy

    def _decay(self, gradients: Any, params: Any) -> Any:
        """Gradients, to which l2 times each parameter that decays is added."""
        parameters = arrays._by_name(params)

        def decayed(path: tuple[Any, ...], slope: nnx.Variable) -> nnx.Variable:
            name = ".".join(map(str, path))
            if not self.training.decays(name):
                return slope
            return slope.replace(slope[...] + self.training.l2 * parameters[name][...])

        return nnx.map_state(decayed, gradients)

    def _spectra(self, images: int) -> dict[str, list[Array]]:
        """The spectra of the kernels that an evaluation takes, made once for the present weights.

        Empty where every convolution is direct, and for one of several processes.
        """
        if self.group is not None or self.device.platform != "cpu":
            return {}
        # A step and a state bring other arrays, so these cannot be of other weights.
        if self._known is None or self._known[0] is not self.params or self._known[1] != images:
            self._known = self.params, images, self._transform(*self._weights(), images)
        return self._known[2]

    def _transformed(self, params: Any, state: Any, images: int) -> dict[str, list[Array]]:
        layers, found = nnx.merge(self.graph, params, state).convolutions(), {}
        for name, of in self.spec.convolutions().items():
            layer = layers[name]
            if chosen(of, images, layer.compute, layer.method):
                found[name] = fourier.spectra(layer.kernel[...], of)
        return found

    def _sums(self, params: Any, state: Any, batch: dict[str, Any], weights_B: Array, spectra: Any):
        net = nnx.merge(self.graph, params, state)
        layers = net.convolutions()
        for name, known in spectra.items():
            layers[name].spectra = nnx.data(known)
        terms = net.terms(**batch)
        loss = terms["classes"]
        if "reconstruction" in terms:
            loss = loss + self.spec.loss.reconstruction * terms["reconstruction"]
        sums = {
            "loss": (weights_B * loss).sum(),
            "correct": (weights_B * terms["correct"]).sum(),
            "count": weights_B.sum(),
        }
        return sums if self.group is None else lax.psum(sums, "batch")

    def _coupled(self, params: Any, state: Any, images: Array) -> Array:
        couplings: list[Array] = []

        def tap(name: str, x: Array) -> Array:
            if name.startswith("routing.") and name.endswith(".coupling"):
                couplings.append(x)
            return x

        nnx.merge(self.graph, params, state)(images, tap)
        return jnp.stack(couplings)

    def _decoded(self, params: Any, state: Any, poses: Array, labels: Array) -> Array:
        return nnx.merge(self.graph, params, state).reconstruct(poses, labels)
