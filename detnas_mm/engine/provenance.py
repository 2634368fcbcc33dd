"""Origin of a search's rows: digests of the model, versions, machine."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from detnas_mm import __version__
from detnas_mm.cli import PACKAGE
from detnas_mm.config_types import comparable
from detnas_mm.latency.device import describe_device
from detnas_mm.options import read_value


def weights_digest(model: nn.Module) -> str:
    """Hashes all weights and buffers of a model."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        digest.update(f'{name}{array.dtype}{tuple(array.shape)}'.encode())
        digest.update(array.view(torch.uint8).numpy().tobytes() if array.ndim else str(array.item()).encode())
    return digest.hexdigest()[:16]


#: Settings of a model that change its training or loading but no score; evaluators record the BN statistics that they
#: compute, which depend on frozen_stages and norm_eval.
NO_SCORE = ('init_cfg', 'pretrained', 'with_cp', 'frozen_stages', 'norm_eval', 'min_loaded')


#: Settings of a backbone that decide which BN layers are frozen in training.
_FREEZING = ('norm_eval', 'frozen_stages')


def frozen_otherwise(meta: Mapping[str, Any], backbone: Any) -> list[str]:
    """Returns settings that freeze BN and were others in the training of a checkpoint, such as ``['norm_eval=True']``.

    Args:
        meta: ``meta`` of the checkpoint, where mmengine writes the text of the config.
        backbone: The backbone that loads the checkpoint.
    """
    try:
        parts = [node for node in ast.parse(str(meta.get('cfg', ''))).body if isinstance(node, ast.Assign)]
        models = [read_value(ast.unparse(one.value)) for one in parts if ast.unparse(one.targets[0]) == 'model']
        settings = models[-1]['backbone']
    except (SyntaxError, ValueError, LookupError, TypeError):  # not known
        return []
    theirs = {key: settings[key] for key in _FREEZING if key in settings}
    return [f'{key}={value!r}' for key, value in theirs.items() if getattr(backbone, key, value) != value]


def model_digest(cfg: Any, model: nn.Module) -> dict[str, str]:
    """Returns the digests of a model's weights, and of its settings."""
    return dict(weights=weights_digest(model), settings=settings_digest(cfg))


def settings_digest(cfg: Any) -> str:
    """Hashes a model's settings as written: thresholds, preprocessing of images, sizes."""
    settings = repr(comparable([cfg.get('model'), cfg.get('data_preprocessor')], skip=NO_SCORE))
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


def environment() -> dict[str, Any]:
    """Returns versions and settings that may change the last digits of a score; recorded, never compared."""
    device = describe_device('cuda' if torch.cuda.is_available() else 'cpu')['name']
    return dict(
        detnas_mm=__version__, code=code_digest(), torch=torch.__version__, device=device,
        threads=torch.get_num_threads(),
    )  # fmt: skip


def code_digest() -> str:
    """Hashes this package's source, which may differ between checkouts of the same version."""
    digest = hashlib.sha256()
    for file in sorted(PACKAGE.rglob('*.py')):
        digest.update(f'{file.relative_to(PACKAGE).as_posix()}\0'.encode() + file.read_bytes())
    return digest.hexdigest()[:8]
