"""Representation error of dilations in a supernet with enlarged kernels (EDO: Liu et al., CVPR 2021, section 3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.model import is_model_wrapper
from torch import nn

from detnas_mm.checks import whole
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.batches import FixedBatches, checked_loader
from detnas_mm.models.modes import kept_modes
from detnas_mm.registry import EVALUATORS
from detnas_mm.search import Evaluation, Evaluator
from detnas_mm.spaces import Architecture
from detnas_mm.systems.nats.convs import genotype_text
from detnas_mm.systems.nats.enlarged import largest_dilation
from detnas_mm.systems.nats.representation import STATISTICS, Statistic
from detnas_mm.systems.nats.space import DilationSpace

if TYPE_CHECKING:
    from detnas_mm.search.job import SearchJob


@EVALUATORS.register_module()
class RepresentationError(Evaluator):
    """Measures the error of keeping only the nine taps of a dilation out of each enlarged kernel.

    The error of an architecture is a sum over output channels, so the best dilation of every group can be chosen
    independently of the others: :meth:`gene_scores`. All scores are computed on the first call, in one pass over the
    images in evaluation mode, without gradients, boxes or labels.

    The paper describes the error as the L1 norm of the expected difference between the outputs of the full and of the
    cut kernel. It does not give the exact formula (over which dimensions the norm and the expectation are taken), and
    no code was published, so three statistics are available. Let Δ_{c,d}(p) be the difference in output channel c at
    position p when only the taps of dilation d are kept:

    - ``'mean_map'``: Σ_p |Δ of the mean input map|. All images must have the same size. Costs one forward pass per
      image, and at the end one convolution per dilation on the mean map.
    - ``'mean_channel'``: |Σ_i μ_i Σ_{u∉d} W[c,i,u]|, with μ the mean over images and positions. Equally fast.
    - ``'error'``: E Σ_p |Δ|, measured on the images. Costs one convolution per image and dilation.

    Args:
        dataloader: Config of the images, as mmengine's dataloaders, without random transforms. Order and batches are
            fixed.
        num_images: Number of images. Defaults to None: all.
        statistic: ``'mean_map'``, ``'mean_channel'`` or ``'error'``. Defaults to ``'mean_map'``.
        seed: With ``num_images``: seed of the random order whose first images are used. Defaults to 0.

    Raises:
        DetNASError: If a setting is invalid; on :meth:`setup`, if the space and the model do not match.
    """

    needs_model = True
    all_ranks = False
    metric = 'representation_error'

    def __init__(
        self,
        dataloader: Mapping[str, Any],
        num_images: int | None = None,
        statistic: str = 'mean_map',
        seed: int = 0,
    ) -> None:
        self.dataloader = checked_loader('evaluator.dataloader', dataloader)
        self.num_images = num_images if num_images is None else whole('evaluator.num_images', num_images, 1)
        if statistic not in STATISTICS:
            raise DetNASError(f'evaluator.statistic must be one of {", ".join(STATISTICS)}; got {statistic!r}.')
        self.statistic = statistic
        self.seed = whole('evaluator.seed', seed)

    def check(self, job: SearchJob) -> None:
        """See :meth:`Evaluator.check`."""
        if not isinstance(job.space, DilationSpace):
            raise DetNASError(
                f"RepresentationError scores dilations and needs search.space=dict(type='DilationSpace', …); got "
                f'{type(job.space).__name__}.'
            )

    def setup(self, job: SearchJob, model: Any = None) -> None:
        """See :meth:`Evaluator.setup`."""
        self.check(job)
        assert isinstance(job.space, DilationSpace)
        self.space = job.space
        self.model: nn.Module = model.module if is_model_wrapper(model) else model
        self.backbone, self.convs = enlarged_convs(self.model, self.space)
        self.batches = FixedBatches(
            self.dataloader, self.num_images, self.seed, cache_mb=0, key='search.evaluator.dataloader'
        )
        self._scores: list[np.ndarray] | None = None

    def spec(self) -> dict[str, Any]:
        return dict(
            type='RepresentationError',
            statistic=self.statistic,
            images=len(self.batches.indices),
            batch_size=self.batches.batch_size,
            images_digest=self.batches.fingerprint(),
        )

    def evaluate(self, archs: Sequence[Architecture]) -> Iterator[Evaluation]:
        """See :meth:`Evaluator.evaluate`; ``details`` contains the error of every convolution."""
        for arch in archs:
            errors = [
                float(self.gene_scores(number)[np.arange(len(ids)), ids].sum())
                for number, ids in enumerate(self.space.genes(arch))
            ]
            yield Evaluation({self.metric: sum(errors)}, details=dict(convs=errors))

    def gene_scores(self, conv: int) -> np.ndarray:
        """Returns the error of every group of one convolution with every genotype, shape (groups, genotypes).

        Args:
            conv: Index of the convolution in the table of the space.

        Raises:
            DetNASError: If images differ in size, with other statistics than ``'mean_map'`` those of a batch; or an
                error is not finite.
        """
        if self._scores is None:
            self._scores = self._measure()
        return self._scores[conv]

    @torch.no_grad()
    def _measure(self) -> list[np.ndarray]:
        statistics = [
            STATISTICS[self.statistic](row.name, conv, self.space.genotypes[row.stage])
            for row, conv in zip(self.space.convs, self.convs, strict=True)
        ]
        with kept_modes(self.model), ExitStack() as stack, _precisely():
            self.model.eval()
            for conv, statistic in zip(self.convs, statistics, strict=True):
                stack.enter_context(_heard(conv, statistic))
            sizes: set[tuple[int, ...]] = set()
            for _, data in self.batches.walk(range(len(self.batches))):
                if self.statistic != 'mean_map':
                    sizes.clear()  # they may differ between batches; in a batch they would be padded
                sizes.update(tuple(image.shape[-2:]) for image in data['inputs'])
                if len(sizes) > 1:
                    raise _unequal_sizes(sizes, self.statistic)
                preprocessor: Any = self.model.data_preprocessor
                self.backbone(preprocessor(data, False)['inputs'])
        return [
            by_group(_finite(statistic), sizes, row.unit)
            for statistic, sizes, row in zip(statistics, self.space.splits, self.space.convs, strict=True)
        ]


def enlarged_convs(model: nn.Module, space: DilationSpace) -> tuple[nn.Module, list[nn.Conv2d]]:
    """Returns the backbone of a model and its convolutions that a space searches.

    Raises:
        DetNASError: If a convolution is missing, has another shape, or has a kernel too small for the dilations of the
            space; names it.
    """
    names = {row.name for row in space.convs}
    for backbone in model.modules():
        found = {name: module for name, module in backbone.named_modules() if name in names}
        if len(found) == len(names):
            break
    else:
        raise DetNASError(
            f'No module of the model has the convolutions of search.space, {space.convs[0].name} … '
            f'{space.convs[-1].name}. Set search.space.backbone to the plain backbone of model.backbone.'
        )
    convs: list[nn.Conv2d] = []
    for row in space.convs:
        conv = found[row.name]
        if not isinstance(conv, nn.Conv2d) or (conv.out_channels, conv.groups) != (row.channels, row.groups):
            raise DetNASError(
                f'{row.name} of the model is {conv}; that of search.space has {row.channels} channels in '
                f'{row.groups} conv-groups. Use the same plain backbone in model.backbone and search.space.backbone.'
            )
        if not all(size % 2 for size in conv.kernel_size):
            raise DetNASError(
                f'{row.name} has a kernel of {conv.kernel_size[0]}x{conv.kernel_size[1]}; enlarged kernels must have '
                f'odd sides, 2 * d_max + 1.'
            )
        largest, held = max(space.genotypes[row.stage], key=max), largest_dilation(conv)
        if max(largest) > held:
            raise DetNASError(
                f'{row.name} has a kernel of {conv.kernel_size[0]}x{conv.kernel_size[1]}, which contains dilations up '
                f'to {held}; search.space has {genotype_text(largest)}. Pre-train a supernet with larger kernels, '
                f"model.backbone=dict(type='detnas_mm.EnlargedBackbone', d_max={max(largest)}, …), or remove the "
                f'larger genotypes from search.space.genotypes.'
            )
        convs.append(conv)
    return backbone, convs


def by_group(errors: np.ndarray, sizes: Sequence[int], unit: int) -> np.ndarray:
    """Returns sums over the channels of every group, shape (groups, genotypes).

    Args:
        errors: Error of every channel, shape (channels, genotypes).
        sizes: Sizes of the groups, in units.
        unit: Number of channels per unit.
    """
    firsts = np.concatenate([[0], np.cumsum(sizes)[:-1]]) * unit
    return np.add.reduceat(errors, firsts, axis=0)


def _finite(statistic: Statistic) -> np.ndarray:
    errors = statistic.errors()
    if not np.isfinite(errors).all():
        raise DetNASError(
            f'The representation error of {statistic.name} is not finite: weights or images contain NaN or infinite '
            f'values. Use another checkpoint.'
        )
    return errors


def _unequal_sizes(sizes: Iterable[tuple[int, ...]], statistic: str) -> DetNASError:
    named = ' and '.join(f'{height}x{width}' for height, width in sorted(sizes))
    if statistic == 'mean_map':
        return DetNASError(
            f"search.evaluator.statistic='mean_map' needs images of one size; got {named}. Resize or crop the images "
            f"to one size in the pipeline, or set statistic to 'mean_channel' or 'error', with batch_size=1."
        )
    return DetNASError(
        f'search.evaluator.dataloader has images of {named} in one batch, whose padding would count as image. Set '
        f'batch_size=1, or resize or crop the images to one size in the pipeline.'
    )


@contextmanager
def _heard(conv: nn.Conv2d, statistic: Statistic) -> Iterator[None]:
    """Context manager that passes the inputs and outputs of a convolution to a statistic."""
    handle = conv.register_forward_hook(lambda module, inputs, out: statistic.add(inputs[0], out))
    try:
        yield
    finally:
        handle.remove()


def _precisely() -> AbstractContextManager[None]:
    """Context manager that disables TF32 in convolutions: the statistics are small differences of large sums."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
