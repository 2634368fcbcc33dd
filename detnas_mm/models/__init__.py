"""Supernets and fixed nets as OpenMMLab backbones."""

from detnas_mm.compat import check_stack

check_stack()

from detnas_mm.models.build import build_model, checked_weights  # noqa: E402
from detnas_mm.models.supernet import Supernet, find_supernet  # noqa: E402

__all__ = ['Supernet', 'build_model', 'checked_weights', 'find_supernet']
