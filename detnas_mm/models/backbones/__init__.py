"""Backbones: supernets and the fixed nets cut out of them."""

from detnas_mm.models.backbones.detnas import DetNASNet, DetNASSupernet

__all__ = ['DetNASNet', 'DetNASSupernet']
