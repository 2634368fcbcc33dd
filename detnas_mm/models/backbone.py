"""Base class of this package's backbones: stages, freezing, loading of checkpoints."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.checks import flag, real
from detnas_mm.errors import DetNASError
from detnas_mm.spaces.images import RGB


class Backbone(BaseModule):
    """A backbone of a stem and stages; ``out_indices`` selects the stages whose outputs are returned.

    Args:
        num_stages: Stages after the stem.
        out_indices: Stages whose outputs are returned, from 0 (stride 4) on. Defaults to all.
        frozen_stages: -1 none, 0 the stem, i the stem and the first i stages.
        norm_eval: Keep BN in evaluation mode while training.
        with_cp: Checkpoint activations: needs less memory and more time.
        min_loaded: Smallest share of the backbone's tensors that a checkpoint must hold; below it loading fails.
        init_cfg: Initialisation config of mmengine.
        may_be_empty: Whether ``out_indices`` may be empty.
        in_channels: Channels of the images.

    Raises:
        ValueError: If an argument does not fit. The message gives the value and what is allowed.
    """

    def __init__(
        self,
        num_stages: int,
        out_indices: Sequence[int] | None,
        frozen_stages: int,
        norm_eval: bool,
        with_cp: bool,
        min_loaded: float,
        init_cfg: dict | list[dict] | None,
        may_be_empty: bool = False,
        in_channels: int = RGB,
    ) -> None:
        super().__init__(init_cfg)
        if out_indices is None:
            out_indices = range(num_stages)
        out_indices = tuple(out_indices if isinstance(out_indices, Sequence) else [out_indices])
        if not all(isinstance(i, int) and 0 <= i < num_stages for i in out_indices) or list(out_indices) != sorted(
            set(out_indices)
        ):
            raise DetNASError(
                f'out_indices must be ascending stage numbers from 0 (stride 4) to {num_stages - 1} '
                f'(stride {2 ** (num_stages + 1)}); got {out_indices}.'
            )
        if not out_indices and not may_be_empty:
            raise DetNASError('out_indices is empty: give at least one stage, such as (0, 1, 2, 3), or with_last_conv.')
        if type(frozen_stages) is not int or not -1 <= frozen_stages <= num_stages:
            raise DetNASError(
                f'frozen_stages must be -1 (nothing frozen), 0 (stem) or up to {num_stages} (stem and all stages); '
                f'got {frozen_stages!r}.'
            )
        if not 0 <= real('min_loaded', min_loaded) <= 1:
            raise DetNASError(f'min_loaded must lie between 0 and 1; got {min_loaded}.')
        self.in_channels = in_channels
        self.num_stages = num_stages
        self.out_indices = out_indices
        self.frozen_stages = frozen_stages
        self.norm_eval = flag('norm_eval', norm_eval)
        self.with_cp = flag('with_cp', with_cp)
        self.min_loaded = min_loaded

    @abstractmethod
    def stage_modules(self, stages: int) -> list[nn.Module]:
        """Returns the modules of the stem and of the first ``stages`` stages."""

    def _freeze(self) -> None:
        for module in self.stage_modules(self.frozen_stages) if self.frozen_stages >= 0 else ():
            module.eval()
            for param in module.parameters():
                param.requires_grad = False

    def _init_as_resnet(self, zeroed: Collection[nn.Module]) -> None:
        """Initialises layers as mmdet's ResNet does, unless that was done; norms in ``zeroed`` start with weight 0."""
        for module in self.modules() if not self.is_init else ():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
            elif isinstance(module, (_BatchNorm, nn.GroupNorm)):
                nn.init.constant_(module.weight, 0.0 if module in zeroed else 1.0)
                nn.init.zeros_(module.bias)

    def train(self, mode: bool = True) -> Backbone:
        """Keeps frozen stages and, with ``norm_eval``, all BN in evaluation mode."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any, **kwargs: Any) -> None:
        """Logs the share of this backbone's tensors that a checkpoint holds, and raises if it is too small.

        The loaders of torch and of mmengine both call this, strict or not, so weights never stay random unnoticed.
        """
        own = {k: v for k, v in self.state_dict().items() if not k.endswith('num_batches_tracked')}
        lacking = [k for k in own if prefix + k not in state_dict]
        unfit = [k for k in own if k not in lacking and state_dict[prefix + k].shape != own[k].shape]
        share = 1 - (len(lacking) + len(unfit)) / len(own)
        where = f'{prefix.rstrip(".")} ({type(self).__name__})' if prefix else type(self).__name__
        message = f'{share:.1%} of the {len(own)} tensors of {where} found in the checkpoint'
        if share < self.min_loaded:
            examples = ', '.join([f'{prefix}{k} (missing)' for k in lacking[:3]] + [f'{k} (shape)' for k in unfit[:3]])
            there = ', '.join(list(state_dict)[:3])
            raise DetNASError(
                f'Only {message}; {self.min_loaded:.1%} are required. Not loaded: {examples}, … The checkpoint has '
                f'{len(state_dict)} keys, such as {there}. Check the architecture, and the prefix (init_cfg=dict(type='
                f"'Pretrained', checkpoint=…, prefix='backbone.') reads a backbone out of a whole model), or lower the "
                f"backbone's min_loaded if the rest is meant to start at random."
            )
        print_log(f'{message}.', logger='current')
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
