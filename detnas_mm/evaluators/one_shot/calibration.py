"""BN statistics of candidates, computed on fixed training images (DetNAS, section 3.2, step 3)."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection import roi_boxes
from detnas_mm.evaluators.detection.batches import FixedBatches
from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.evaluators.one_shot.path_tree import Node, PathTree, replayed
from detnas_mm.evaluators.ranks import jointly
from detnas_mm.evaluators.seeding import seeded, stable_seed
from detnas_mm.models import find_supernet
from detnas_mm.search import counted


def norms_to_recalibrate(model: nn.Module, key: str = 'search.evaluator.calibration') -> dict[str, _BatchNorm]:
    """Returns the BN layers to recalibrate for each candidate, by name: those that are not frozen in training.

    Args:
        model: The model.
        key: Key of the setting, for messages.

    Raises:
        DetNASError: If there are BN layers, and all are frozen in training.
    """
    norms, trained = bn_recalibration.batch_norms(model), bn_recalibration.trained_norms(model)
    if norms and not trained:
        raise DetNASError(
            f'{key} is given, but all {len(norms)} BN layers of {type(model).__name__} are '
            f'frozen in training (norm_eval, frozen_stages), so there is nothing to recalibrate. Set '
            f'{key}=None.'
        )
    return trained


class Calibration(FixedBatches):
    """Recalibrates BN layers on fixed training images.

    Args:
        model: A detector or classifier that holds a supernet.
        norms: The BN layers to recalibrate: :func:`norms_to_recalibrate`.
        dataloader: See :class:`FixedBatches`.
        num_images: Number of images to use; the batch size must divide it.
        seed: Selects the images, and seeds the RoI sampling of heads.
        cache_mb: See :class:`FixedBatches`.
        key: Key of the settings, for messages.

    Attributes:
        frozen: Names of the other BN layers, which keep their statistics.
        part: The smallest part of the model with all layers to recalibrate: ``'backbone'``, ``'neck'`` or ``'model'``.
            Heads, losses and proposals without such layers are not run.

    Raises:
        ValueError: See :class:`FixedBatches`.
    """

    def __init__(
        self,
        model: nn.Module,
        norms: dict[str, _BatchNorm],
        dataloader: Mapping[str, Any],
        num_images: int = 500,
        seed: int = 0,
        cache_mb: float = 2048,
        key: str = 'search.evaluator.calibration',
    ) -> None:
        super().__init__(
            dataloader, num_images=num_images, seed=seed, whole_batches=True, cache_mb=cache_mb,
            key=f'{key}.dataloader',
        )  # fmt: skip
        self.model: Any = model
        self.supernet = find_supernet(model)
        self.seed = seed
        self.norms = norms
        self.frozen = sorted(bn_recalibration.batch_norms(model).keys() - norms.keys())
        parts = {name.split('.')[0] for name in self.norms}
        self.part = 'model'
        if parts <= {'backbone'}:
            self.part = 'backbone'
        elif parts <= {'backbone', 'neck'} and hasattr(model, 'extract_feat'):
            self.part = 'neck'

    def spec(self) -> dict[str, Any]:
        """Returns the settings that determine the statistics, JSON-ready."""
        spec: dict[str, Any] = dict(
            images=len(self.indices), batch_size=self.batch_size, images_digest=self.fingerprint(), part=self.part
        )
        if self.frozen:
            digest = hashlib.sha256('\n'.join(self.frozen).encode()).hexdigest()[:16]
            spec['frozen'] = dict(layers=len(self.frozen), names_digest=digest)
        return spec

    def frozen_line(self) -> str:
        """Returns a log line with the numbers of recalibrated and of frozen BN layers."""
        return (
            f'BN statistics: {len(self.norms)} of {counted(len(self.norms) + len(self.frozen), "layer")} recalibrated; '
            f'{len(self.frozen)} frozen in training (norm_eval, frozen_stages) and kept.'
        )

    @torch.no_grad()
    def recalibrate(self, tree: PathTree, batches: Sequence[int]) -> None:
        """Adds batches to the statistics of a tree's nodes; nodes with statistics that are not finite fail.

        Args:
            tree: The candidates.
            batches: Numbers of the batches.

        Raises:
            OutOfMemory: On all ranks, if one of them ran out of memory.
        """
        gathered = jointly(lambda: self._collect(tree, batches))
        device = next(self.model.parameters()).device
        for node, *shares in zip(tree.nodes, *gathered, strict=True):
            found = bn_recalibration.average({n: batch for share in shares for n, batch in share.items()})
            broken = bn_recalibration.not_finite(found)
            if broken:
                node.failure = f'recalibrated BN statistics of {broken[0]} are not finite'
            # Every evaluation batch needs them on the device, and copies from the CPU make a GPU wait.
            node.statistics = {name: (mean.to(device), var.to(device)) for name, (mean, var) in found.items()}

    def _collect(self, tree: PathTree, batches: Sequence[int]) -> list[dict[int, bn_recalibration.BatchStatistics]]:
        """Computes this rank's share: for each node, statistics by batch, earlier batches included."""
        with (
            bn_recalibration.recording(self.model, self.norms) as into,
            bn_recalibration.without_rpn_loss(self.model),
            bn_recalibration.without_adaptation(self.model),
            roi_boxes.together(self.model),
        ):
            for unit, data in self.walk(batches, tree.parts):
                nodes: list[Node] = []
                noted: list[bn_recalibration.Noted] = []

                def enter(node: Node, nodes: list[Node] = nodes, noted: list[Any] = noted) -> None:
                    nodes.append(node)
                    noted.append([])
                    into(noted[-1])

                data = self.model.data_preprocessor(data, False)
                for _, outputs in tree.walk(data['inputs'], enter, unit.part, unit.parts):
                    if self.part != 'backbone':
                        with replayed(self.supernet, outputs):
                            self._forward(data)
                for node, statistics in zip(nodes, bn_recalibration.packed(noted), strict=True):
                    node.collected[unit.batch] = statistics  # may be recomputed, for other candidates through this node
        return [node.collected for node in tree.nodes]

    def _forward(self, data: Any) -> None:
        """Runs neck and head. Heads with BN get training RoIs, sampled with a seed for each batch."""
        if self.part == 'neck':
            self.model.extract_feat(data['inputs'])
            return
        names = [os.path.basename(str(getattr(sample, 'img_path', ''))) for sample in data['data_samples']]
        with seeded(stable_seed([self.seed, *names])):
            self.model(**copy.deepcopy(data), mode=bn_recalibration.forward_mode(self.model))
