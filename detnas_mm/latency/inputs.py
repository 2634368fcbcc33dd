"""Builds nets for measurements, and their inputs. Imports torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from mmengine.registry import DATASETS, MODELS, DefaultScope
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.checks import checked_input_size
from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.temporary import quiet
from detnas_mm.latency.device import describe_device
from detnas_mm.latency.file import PARTS
from detnas_mm.models import build_model, checked_weights
from detnas_mm.registry import building
from detnas_mm.spaces.images import RGB

#: Number of images that a detector is run on: the time of post-processing depends on the image.
NUM_IMAGES = 4
#: Runs a net on one input.
Run = Callable[[Any], Any]


class Inputs:
    """Inputs of a measured backbone or detector on a device.

    Args:
        part: ``'backbone'``, on noise, or ``'detector'``: preprocessing, backbone, neck, head and post-processing.
        input_size: (height, width) in pixels.
        device: ``'cpu'`` or ``'cuda'``.
        images: Images for a detector, of shape (channels, h, w) each; resized to the input size. Defaults to None:
            noise.
        channels: Channels of the images.

    Attributes:
        images: ``'search-val'`` or ``'noise'``.
        values: Inputs that a net is run on; times are means over them.

    Raises:
        ValueError: If something does not fit.
    """

    def __init__(
        self,
        part: str,
        input_size: Any,
        device: str,
        images: Sequence[Tensor] | None = None,
        channels: int = RGB,
    ) -> None:
        if part not in PARTS:
            raise DetNASError(f'part must be one of {PARTS}; got {part!r}.')
        if describe_device(device)['name'] is None:
            raise DetNASError('This machine has no CUDA device that torch can use; measure with --device cpu.')
        self.part, self.device = part, device
        self.size = checked_input_size(input_size)
        self.channels = channels
        self.images = 'noise' if images is None or part == 'backbone' else 'search-val'
        if part == 'backbone':
            self.values: list[Any] = [self._noise(1)]
        else:
            self.values = self._samples(list(128 + 50 * self._noise(NUM_IMAGES).cpu()) if images is None else images)

    def _noise(self, count: int) -> Tensor:
        return torch.randn(count, self.channels, *self.size, generator=torch.Generator().manual_seed(0)).to(self.device)

    def _samples(self, images: Sequence[Tensor]) -> list[Any]:
        """Returns batches of one image for a detector's ``test_step``."""
        from mmdet.structures import DetDataSample

        resized = [nn.functional.interpolate(one[None].float(), self.size, mode='bilinear')[0] for one in images]
        meta = dict(img_shape=self.size, ori_shape=self.size, scale_factor=(1.0, 1.0))
        return [
            dict(
                inputs=[one.round().clamp(0, 255).to(torch.uint8)],
                data_samples=[DetDataSample(metainfo=meta | dict(img_id=i))],
            )
            for i, one in enumerate(resized)
        ]

    def batch(self, model: nn.Module | None = None) -> Tensor:
        """Returns a batch of preprocessed images, shape (n, channels, h, w)."""
        if self.part == 'backbone' or model is None:
            return self._noise(NUM_IMAGES)
        return torch.cat([model.data_preprocessor(one, False)['inputs'] for one in self.values])

    def run(self, model: Any, backbone: nn.Module) -> Run:
        """Returns a function that runs a backbone, or the model with this backbone, on one input."""

        def inside(data: Any) -> Any:
            model.backbone = backbone
            return model.test_step(data)

        return inside if self.part == 'detector' else backbone


def search_val_images(cfg: Any) -> list[Tensor]:
    """Returns images spread over the test set of a config, after its pipeline."""
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        with building('test_dataloader.dataset'):
            dataset = DATASETS.build(cfg['test_dataloader']['dataset'])
        return [dataset[len(dataset) * i // NUM_IMAGES]['inputs'] for i in range(NUM_IMAGES)]


def load_model(cfg: Any, checkpoint: str | None, device: str, trust: bool = False) -> nn.Module:
    """Builds the model of a config in evaluation mode, with the weights of a checkpoint or its initial ones."""
    with quiet(), DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = build_model(cfg)
        if checkpoint:
            model.load_state_dict(checked_weights(model, load_checkpoint_file(checkpoint, trust), checkpoint))
        else:
            model.init_weights()
    return model.to(device).eval()


def load_backbone(settings: Mapping[str, Any], inputs: Inputs, scope: str | None = None) -> nn.Module:
    """Builds a backbone with random weights and BN statistics computed for them."""
    with quiet(), DefaultScope.overwrite_default_scope(scope), building('model.backbone'):
        net = MODELS.build({**settings, 'init_cfg': None})
        net.init_weights()
    return settled(net.to(inputs.device), inputs.batch())


def load_net(cfg: Any, checkpoint: str | None, inputs: Inputs) -> Run:
    """Builds the net of an ordinary config; returns a function that runs it on one input.

    Args:
        cfg: The config; its model may be a backbone only.
        checkpoint: File of its weights; if None, they are random and BN statistics are computed on the inputs.
        inputs: Inputs that it is run on.
    """
    if checkpoint is None and inputs.part == 'backbone':
        return load_backbone(cfg['model']['backbone'], inputs, cfg.get('default_scope'))
    model: Any = load_model(cfg, checkpoint, inputs.device)
    if checkpoint is None:
        settled(model.backbone, inputs.batch(model))
    return model.test_step if inputs.part == 'detector' else model.backbone


def settled(net: nn.Module, batch: Tensor) -> nn.Module:
    """Computes BN statistics on a batch: activations of unusual size would change the time of later layers.

    Args:
        net: A backbone.
        batch: Preprocessed images, shape (n, c, h, w), n at least 2.
    """
    update_bn([batch], net)
    net.eval()  # returns None for some backbones
    return net
