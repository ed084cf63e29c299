"""Dynamic routing that never stores the votes.

Axes: B batch, I input capsules, J output capsules, K size of an input pose, D of an output pose,
M the D of all J in a row, N the K of all I, C the input capsules of one block, T iterations.

Every logit is a vote times the sum V of the earlier outputs, b = <vote, V>. So all that an
iteration needs of the earlier ones is V, and it is one pass over blocks of input capsules, which
makes the votes of a block, uses them and drops them:

    vote_i = W_i^T u_i        c_i = softmax over J of <vote_i, V>        s = bias + sum_i c_i vote_i

In the first iteration every routing coefficient c is the same, so its s is one matrix product. What
is kept for the gradient is each iteration's s. With g_t = dL/ds_t (that of the output through the
squash), iteration t contributes

    dvote_i += c_i g_t + e_i V_t        dV_t = sum_i e_i vote_i        dbias += sum over B of g_t

where e_i = c_i (a_i - sum over J of c_i a_i), a_i = <vote_i, g_t>, is what reaches the logits
(a leak has no vote, so the same holds with one). As V_t is the sum of the outputs before t, dV_t
is added to the gradient of each of them: iterations are walked from the last to the first, where
c is constant. A pass for each finds dV_t; the last of them, when every g but the first is known,
makes dvote_i for all at once, and with it dW_i = u_i dvote_i^T and du_i = W_i dvote_i.
"""

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from parity.spec import TwincapsError
from torch_caps.capsules import squash
from torch_caps.numerics import compiled
from torch_caps.routing._dynamic import coupling


class _Options(NamedTuple):
    num_iters: int
    leaky: bool
    detach: bool
    block: int
    outputs: int
    compile: bool


def dynamic(
    inputs_BIK: Tensor,
    kernel_IJKD: Tensor,
    *,
    num_iters: int = 3,
    bias_JD: Tensor | None = None,
    leaky: bool = False,
    detach: bool = False,
    block: int | None = None,
) -> Tensor:
    """`routing.dynamic` of the votes of these inputs, which are never stored.

    It cannot be differentiated twice, nor in forward mode (`lean=False` can). Under torch.compile
    the work on a block is compiled; under torch.autocast it stays in float32. torch.func.vmap
    calls it once for each element.

    Args:
        inputs_BIK: The poses of the input capsules.
        kernel_IJKD: A matrix for each pair of an input and an output capsule.
        num_iters: Iterations; this and the next three are as in `routing.dynamic`.
        bias_JD: Added to the weighted sum before each squash.
        leaky: Whether an input capsule may also send to nothing.
        detach: Whether the last routing coefficients are constants to the gradient.
        block: Input capsules whose votes are in memory at a time; None chooses from the sizes.

    Returns:
        Poses [B, J, D], without the routing coefficients.

    Raises:
        ValueError: Where `num_iters` is below 1.
    """
    if num_iters < 1:
        raise ValueError(f"num_iters is {num_iters}; expected at least 1")
    block = block or _fitting(inputs_BIK, kernel_IJKD)
    compiling = torch.compiler.is_compiling()
    outputs = kernel_IJKD.shape[1]
    options = _Options(num_iters, leaky, detach, block, outputs, compiling)
    return _apply(inputs_BIK, kernel_IJKD, bias_JD, options)[0]


def _fitting(inputs_BIK: Tensor, kernel_IJKD: Tensor) -> int:
    """The number of input capsules whose votes fit two cores' caches, or a GPU."""
    _, outputs, _, size = kernel_IJKD.shape
    # Bytes of votes: 2 MiB on a CPU, 64 MiB on a GPU.
    fits = 2**21 if inputs_BIK.device.type == "cpu" else 2**26
    return max(1, fits // max(1, len(inputs_BIK) * outputs * size * inputs_BIK.element_size()))


def _votes(inputs_CKB: Tensor, kernel_CKM: Tensor, like_JDB: Tensor) -> Tensor:
    return torch.bmm(kernel_CKM.mT, inputs_CKB).view(-1, *like_JDB.shape)


def _agreement(votes_CJDB: Tensor, poses_JDB: Tensor) -> Tensor:
    return (votes_CJDB * poses_JDB).sum(2)


def _sum(coupling_CJB: Tensor, votes_CJDB: Tensor) -> Tensor:
    return (coupling_CJB[:, :, None] * votes_CJDB).sum(0)


def _to_logits(coupling_CJB: Tensor, slope_CJB: Tensor) -> Tensor:
    """The gradient of the logits from that of their softmax."""
    mean_CB = (coupling_CJB * slope_CJB).sum(1, keepdim=True)
    return coupling_CJB * (slope_CJB - mean_CB)


def _forward_block(inputs_CKB: Tensor, kernel_CKM: Tensor, V_JDB: Tensor, leaky: bool) -> Tensor:
    """The share of a block of input capsules in an iteration's s."""
    votes_CJDB = _votes(inputs_CKB, kernel_CKM, V_JDB)
    return _sum(coupling(_agreement(votes_CJDB, V_JDB), leaky, 1), votes_CJDB)


def _slope_block(
    inputs_CKB: Tensor, kernel_CKM: Tensor, V_JDB: Tensor, g_JDB: Tensor, leaky: bool
) -> Tensor:
    """The share of a block of input capsules in an iteration's dV."""
    votes_CJDB = _votes(inputs_CKB, kernel_CKM, V_JDB)
    coupling_CJB = coupling(_agreement(votes_CJDB, V_JDB), leaky, 1)
    return _sum(_to_logits(coupling_CJB, _agreement(votes_CJDB, g_JDB)), votes_CJDB)


def _gradient_block(
    inputs_CKB: Tensor,
    kernel_CKM: Tensor,
    V_TJDB: Tensor,
    g_TJDB: Tensor,
    leaky: bool,
    detach: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """A block's share in the dV of the first of these iterations; du and dW of all."""
    votes_CJDB = _votes(inputs_CKB, kernel_CKM, V_TJDB[0])
    # dvote_i += c_i g_t + e_i V_t, over the iterations.
    slope_JDB, dvotes_CJDB = torch.zeros_like(V_TJDB[0]), votes_CJDB.new_zeros(1)
    for t, (V_JDB, g_JDB) in enumerate(zip(V_TJDB, g_TJDB, strict=True)):
        coupling_CJB = coupling(_agreement(votes_CJDB, V_JDB), leaky, 1)
        dvotes_CJDB = dvotes_CJDB + coupling_CJB[:, :, None] * g_JDB
        if not detach:
            logits_CJB = _to_logits(coupling_CJB, _agreement(votes_CJDB, g_JDB))
            dvotes_CJDB = dvotes_CJDB + logits_CJB[:, :, None] * V_JDB
            if t == 0:
                slope_JDB = _sum(logits_CJB, votes_CJDB)
    # du_i = W_i dvote_i and dW_i = u_i dvote_i^T.
    dvotes_CMB = dvotes_CJDB.flatten(1, 2)
    return slope_JDB, kernel_CKM @ dvotes_CMB, inputs_CKB @ dvotes_CMB.mT


@functools.cache
def _compiled(block: Callable[..., Any]) -> Callable[..., Any]:
    return compiled(block)


def _by_block(block: Callable[..., Any], options: _Options, tensors: tuple, *rest: Any) -> Iterator:
    """The results of a function of a block of input capsules, block after block."""
    block = _compiled(block) if options.compile else block
    for part in zip(*(tensor.split(options.block) for tensor in tensors), strict=True):
        yield block(*part, *rest)


def _through_squash(sum_JDB: Tensor, dposes_JDB: Tensor) -> Tensor:
    with torch.enable_grad():
        sum_JDB = sum_JDB.detach().requires_grad_()
        return torch.autograd.grad(squash(sum_JDB, 1), sum_JDB, dposes_JDB)[0]


def _inside(inputs_BIK: Tensor, kernel_IJKD: Tensor) -> tuple[Tensor, Tensor]:
    """inputs_IKB and kernel_IKM, the batch last: operations on votes run along it."""
    return inputs_BIK.permute(1, 2, 0).contiguous(), kernel_IJKD.transpose(1, 2).flatten(2)


def _forward(options: _Options, tensors: tuple[Tensor, Tensor], bias_JD: Tensor | None) -> Tensor:
    """The s of every iteration: [T, J, D, B]."""
    # The first s: a sum over I and K, divided by the outputs, and by the leak as one more.
    inputs_IKB, kernel_IKM = tensors
    first_MB = kernel_IKM.flatten(0, 1).mT @ inputs_IKB.flatten(0, 1)
    first_JDB = first_MB.view(options.outputs, -1, first_MB.shape[1])
    bias_JD1 = first_JDB.new_zeros(1) if bias_JD is None else bias_JD[:, :, None]
    sums = [first_JDB / (options.outputs + options.leaky) + bias_JD1]
    # Each further s: V takes in the last output, and a pass over the blocks adds up their shares.
    V_JDB = torch.zeros_like(first_JDB)
    for _ in range(1, options.num_iters):
        V_JDB = V_JDB + squash(sums[-1], 1)
        parts = _by_block(_forward_block, options, tensors, V_JDB, options.leaky)
        sums.append(functools.reduce(torch.add, parts, bias_JD1))
    return torch.stack(sums)


def _backward(
    options: _Options, tensors: tuple[Tensor, Tensor], sums_TJDB: Tensor, dposes_JDB: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """du_IKB, dW_IKM and dbias_JD."""
    V_TJDB = list(itertools.accumulate(squash(sums_TJDB[:-1], 2)))  # from t = 1
    g_TJDB = [_through_squash(sums_TJDB[-1], dposes_JDB)]  # of the iterations walked so far
    du_IKB, dW_IKM = (torch.zeros_like(tensor) for tensor in tensors)
    # From here on the sum of dV: the gradient of the output of the iteration before.
    dposes_JDB = torch.zeros_like(dposes_JDB)
    for t in range(options.num_iters - 1, 0, -1):
        if t > 1 and not options.detach:
            # dV_t alone: what the votes get waits until every g is known.
            rest = V_TJDB[t - 1], g_TJDB[0], options.leaky
            parts = _by_block(_slope_block, options, tensors, *rest)
            dposes_JDB = functools.reduce(torch.add, parts, dposes_JDB)
        else:
            # The last pass: dV_t, and du and dW of all iterations walked so far.
            vectors = torch.stack(V_TJDB[-len(g_TJDB) :]), torch.stack(g_TJDB)
            rest = *vectors, options.leaky, options.detach
            shares = _by_block(_gradient_block, options, tensors, *rest)
            into = zip(du_IKB.split(options.block), dW_IKM.split(options.block), strict=True)
            for (du_CKB, dW_CKM), (slope_JDB, du, dW) in zip(into, shares, strict=True):
                du_CKB.copy_(du)
                dW_CKM.copy_(dW)
                dposes_JDB = dposes_JDB + slope_JDB
        if options.detach:  # nothing flows to the iterations before
            return du_IKB, dW_IKM, g_TJDB[0].sum(-1)
        g_TJDB.insert(0, _through_squash(sums_TJDB[t - 1], dposes_JDB))
    # The first iteration, whose coefficients are constants: two matrix products.
    g_MB = g_TJDB[0].flatten(0, 1) / (options.outputs + options.leaky)
    inputs_NB, kernel_NM = (tensor.flatten(0, 1) for tensor in tensors)
    du_IKB.flatten(0, 1).addmm_(kernel_NM, g_MB)
    dW_IKM.flatten(0, 1).addmm_(inputs_NB, g_MB.mT)
    return du_IKB, dW_IKM, torch.stack(g_TJDB).sum((0, -1))


def _refusal(what: str) -> TwincapsError:
    return TwincapsError(
        f"lean routing has no {what}; build the network with lean=False, or call "
        "routing.dynamic, for routing that has"
    )


def _unbatched(function: Any, size: int, in_dims: Any, arguments: Any) -> Any:
    """A Function under vmap: one call for each element, as it works in place."""
    calls = []
    for n in range(size):
        pairs = zip(arguments, in_dims, strict=True)
        calls.append(function.apply(*(x.select(d, n) if type(d) is int else x for x, d in pairs)))
    stacked = tuple(
        None if one[0] is None else torch.stack(one) for one in zip(*calls, strict=True)
    )
    return stacked, tuple(None if x is None else 0 for x in stacked)


def _full(*tensors: Tensor | None) -> list[Any]:
    """The tensors, under autocast in float32 or wider: float16 overflows in routing."""
    given = [tensor for tensor in tensors if tensor is not None]
    if not torch.is_autocast_enabled(given[0].device.type):
        return list(tensors)
    wide = functools.reduce(torch.promote_types, (tensor.dtype for tensor in given), torch.float32)
    return [None if tensor is None else tensor.to(wide) for tensor in tensors]


class _Dynamic(torch.autograd.Function):
    """Poses [B, J, D], and for the gradient the s of every iteration."""

    @staticmethod
    def forward(inputs_BIK, kernel_IJKD, bias_JD, options):
        inputs_BIK, kernel_IJKD, bias_JD = _full(inputs_BIK, kernel_IJKD, bias_JD)
        with torch.autocast(inputs_BIK.device.type, enabled=False):
            sums_TJDB = _forward(options, _inside(inputs_BIK, kernel_IJKD), bias_JD)
            return squash(sums_TJDB[-1], 1).permute(2, 0, 1).contiguous(), sums_TJDB

    @staticmethod
    def setup_context(ctx, inputs, output):
        inputs_BIK, kernel_IJKD, bias_JD, ctx.options = inputs
        ctx.biased = bias_JD is not None
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs_BIK, kernel_IJKD, output[1])

    @staticmethod
    def backward(ctx, *dposes_BJD):
        gradients = _Gradient.apply(*ctx.saved_tensors, dposes_BJD[0], ctx.options)
        return *gradients[:2], gradients[2] if ctx.biased else None, None

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _unbatched(_Dynamic, info.batch_size, in_dims, arguments)

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("forward-mode derivatives")


class _Gradient(torch.autograd.Function):
    """du_BIK, dW_IJKD and dbias_JD: a Function, so that it can refuse derivatives."""

    @staticmethod
    def forward(inputs_BIK, kernel_IJKD, sums_TJDB, dposes_BJD, options):
        inputs_BIK, kernel_IJKD, dposes_BJD = (
            tensor.to(sums_TJDB) for tensor in (inputs_BIK, kernel_IJKD, dposes_BJD)
        )
        with torch.autocast(inputs_BIK.device.type, enabled=False):
            tensors, dposes_JDB = _inside(inputs_BIK, kernel_IJKD), dposes_BJD.permute(1, 2, 0)
            du_IKB, dW_IKM, dbias_JD = _backward(options, tensors, sums_TJDB, dposes_JDB)
        dW_IKJD = dW_IKM.unflatten(2, kernel_IJKD.shape[1::2])
        return du_IKB.permute(2, 0, 1), dW_IKJD.transpose(1, 2), dbias_JD

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Keeps nothing."""

    @staticmethod
    def backward(ctx, *_):
        raise _refusal("second derivatives")

    @staticmethod
    def vmap(info, in_dims, *arguments):
        return _unbatched(_Gradient, info.batch_size, in_dims, arguments)

    @staticmethod
    def jvp(ctx, *tangents):
        raise _refusal("second derivatives")


# A compiler would unroll the loops over blocks; only the work on one is compiled.
_apply: Any = torch.compiler.disable(_Dynamic.apply)
