"""Statistics of BN layers for one path of a supernet, recalibrated (DetNAS, section 3.2, step 3).

Definition: while the network runs on the calibration batches, every BN layer normalises by the statistics of the
current batch. A layer's new running mean is the plain mean of the batch means, its new running variance the plain mean
of the unbiased batch variances: float32 for each batch, summed in float64 in the order of the batches, cast once. So a
batch's statistics depend on no other batch, and batches may be distributed to workers.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.evaluators.temporary import replaced
from detnas_mm.models.modes import kept_modes

#: Layer name → (mean, variance), both of shape (channels,).
Statistics = dict[str, tuple[Tensor, Tensor]]
#: Records of one batch: name, mean and variance of every layer as it runs; a layer that runs several times in a
#: forward (shared heads) is recorded several times.
Noted = list[tuple[str, Tensor, Tensor]]
#: Names and channels of the layers that ran, in order.
Layout = tuple[tuple[str, int], ...]
#: The same packed for sending and summing: the layout, and all means and variances in one array.
BatchStatistics = tuple[Layout, np.ndarray]


def batch_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Returns all BN layers with running statistics, by name; SyncBN and its replacement included."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    }


def trained_norms(model: nn.Module) -> dict[str, _BatchNorm]:
    """Returns the BN layers whose statistics change in training, by name; the others are frozen.

    The model decides: it is put into training mode as a training loop does it, and a layer that stays in evaluation
    mode (by ``norm_eval``, ``frozen_stages`` or its own ``train``) is frozen. Modes are restored. Parameters without
    gradients (``requires_grad=False``) do not matter: their statistics change all the same.
    """
    with kept_modes(model):
        model.train()
        return {name: norm for name, norm in batch_norms(model).items() if norm.training}


def forward_mode(model: nn.Module) -> str:
    """Returns the fastest forward mode that runs all BN layers of a model as in training.

    Returns:
        ``'tensor'`` for one-stage detectors whose loss uses the same forward of the head, else ``'loss'``: the heads of
        two-stage detectors get other RoIs in training.
    """
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
    from mmdet.models.detectors import SingleStageDetector

    model_type: Any = type(model)
    head_type: Any = type(getattr(model, 'bbox_head', None))
    same = (
        issubclass(model_type, SingleStageDetector)
        and issubclass(head_type, BaseDenseHead)
        and all(getattr(model_type, name) is getattr(SingleStageDetector, name) for name in ('loss', '_forward'))
        and head_type.loss is BaseDenseHead.loss
    )
    return 'tensor' if same else 'loss'


@contextlib.contextmanager
def without_rpn_loss(model: nn.Module) -> Iterator[None]:
    """Skips the RPN loss of a two-stage detector in training, since nothing later depends on it."""
    from mmdet.models.dense_heads.base_dense_head import BaseDenseHead

    head: Any = getattr(model, 'rpn_head', None)
    known = isinstance(head, BaseDenseHead) and type(head).loss_and_predict is BaseDenseHead.loss_and_predict
    with replaced(head, 'loss_by_feat', lambda *args, **kwargs: {}) if known else contextlib.nullcontext():
        yield


@contextlib.contextmanager
def without_adaptation(model: nn.Module) -> Iterator[None]:
    """Freezes Dynamic R-CNN's thresholds, so that RoIs of a candidate do not depend on earlier candidates."""
    head: Any = getattr(model, 'roi_head', None)
    with contextlib.ExitStack() as stack:
        if hasattr(head, 'update_hyperparameters'):
            stack.enter_context(replaced(head, 'update_hyperparameters', lambda: (None, None)))
            for history in ('iou_history', 'beta_history'):
                stack.enter_context(replaced(head, history, []))
        yield


@contextlib.contextmanager
def local_batch_norm(model: nn.Module) -> Iterator[None]:
    """Makes SyncBN layers behave as BN inside the block: ranks have different images and must not synchronise."""
    synced = [m for m in model.modules() if isinstance(m, nn.SyncBatchNorm)]
    for module in synced:
        module.forward = types.MethodType(nn.BatchNorm2d.forward, module)
    try:
        yield
    finally:
        for module in synced:
            del module.forward


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Restores all BN statistics, momenta and module modes after the block, also after an error."""
    norms = batch_norms(model).values()
    momenta = {m: m.momentum for m in norms}
    buffers = {m: {key: value.clone() for key, value in m.named_buffers(recurse=False)} for m in norms}
    with kept_modes(model):
        try:
            yield
        finally:
            for norm in norms:
                norm.momentum = momenta[norm]
                for key, value in norm.named_buffers(recurse=False):
                    value.copy_(buffers[norm][key])


@contextlib.contextmanager
def recording(model: nn.Module, norms: Mapping[str, _BatchNorm]) -> Iterator[Callable[[Noted], None]]:
    """Prepares a model for recalibration and records the batch statistics of some BN layers.

    These layers run in training mode, all other modules (dropout, other BN, …) in evaluation mode. Their buffers are
    overwritten: wrap the model in :func:`restored`.

    Args:
        model: The model.
        norms: The BN layers to record, by name: :func:`trained_norms`.

    Yields:
        A function that sets the list for the statistics of later forwards; layers that do not run are missing in it.
    """
    current: Noted = []

    def into(target: Noted) -> None:
        nonlocal current
        current = target

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            # With momentum 1 the running statistics are those of this forward, with unbiased variance.
            current.append((name, module.running_mean.clone(), module.running_var.clone()))
            module.reset_running_stats()  # 0 * NaN is NaN, which would reach the next candidate

        return hook

    model.eval()
    handles = [norm.register_forward_hook(note(name)) for name, norm in norms.items()]
    try:
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = 1.0
            norm.training = True
        yield into
    finally:
        for handle in handles:
            handle.remove()


def packed(noted: Sequence[Noted]) -> list[BatchStatistics]:
    """Packs the records of a batch into few arrays: one synchronisation with the GPU, and less to send."""
    values = [value for one in noted for _, *both in one for value in both]
    flat = torch.cat(values).cpu() if values else torch.empty(0)
    everything = (flat if flat.dtype == torch.float64 else flat.float()).numpy()
    layouts = [tuple((name, len(mean)) for name, mean, _ in one) for one in noted]
    ends = np.cumsum([2 * sum(width for _, width in layout) for layout in layouts])
    # Copies: a view would be sent with its whole base array.
    pieces = [piece.copy() for piece in np.split(everything, ends[:-1])] if layouts else []
    return list(zip(layouts, pieces, strict=True))


def average(collected: Mapping[int, BatchStatistics]) -> Statistics:
    """Returns the plain mean over batches, summed in float64 in the order of the batches and cast once.

    Args:
        collected: Results of :func:`packed` by batch, of all workers.
    """
    totals: dict[Layout, tuple[Any, int]] = {}
    for number in sorted(collected):
        layout, values = collected[number]
        total, count = totals.get(layout, (0.0, 0))
        totals[layout] = total + values.astype(np.float64), count + 1
    sums: dict[str, tuple[Any, int]] = {}
    for layout, (total, count) in totals.items():
        begin = 0
        for name, width in layout:  # a layer that runs several times sums its calls
            own, calls = sums.get(name, (0.0, 0))
            sums[name] = own + total[begin : begin + 2 * width].reshape(2, width), calls + count
            begin += 2 * width
    return {
        name: (torch.from_numpy(mean), torch.from_numpy(var))
        for name, (own, calls) in sums.items()
        for mean, var in [(own / calls).astype(values.dtype)]
    }


@torch.no_grad()
def apply(norms: Mapping[str, _BatchNorm], statistics: Statistics) -> None:
    """Writes statistics into BN layers, as returned by :func:`batch_norms`."""
    for name, (mean, var) in statistics.items():
        norms[name].running_mean.copy_(mean)
        norms[name].running_var.copy_(var)
        norms[name].num_batches_tracked.zero_()  # the number on this rank must not depend on the candidate


def not_finite(statistics: Statistics) -> list[str]:
    """Returns names of the layers whose statistics are not finite."""
    return [n for n, (mean, var) in statistics.items() if not (mean.isfinite().all() and var.isfinite().all())]
