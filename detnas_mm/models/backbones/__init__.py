"""Backbones: supernets and the fixed nets cut out of them."""

from detnas_mm.models.backbones.detnas import DetNASNet, DetNASSupernet
from detnas_mm.models.backbones.mae_det import MAEDetNet

__all__ = ['DetNASNet', 'DetNASSupernet', 'MAEDetNet']
