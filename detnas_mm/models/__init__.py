"""Supernets and fixed nets as OpenMMLab backbones."""

from detnas_mm.compat import check_stack

check_stack()

from detnas_mm.models.build import build_model, check_neck, checked_weights, without_memory  # noqa: E402
from detnas_mm.models.norms import GroupNorm, StandardizedConv2d  # noqa: E402
from detnas_mm.models.supernet import Supernet, find_supernet, image_channels  # noqa: E402

__all__ = [
    'GroupNorm', 'StandardizedConv2d', 'Supernet', 'build_model', 'check_neck', 'checked_weights', 'find_supernet',
    'image_channels', 'without_memory',
]  # fmt: skip
