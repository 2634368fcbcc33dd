"""Supernets and fixed nets as OpenMMLab backbones."""

from detnas_mm.models.backbones import DetNASNet, DetNASSupernet
from detnas_mm.models.supernet import Supernet, find_supernet

__all__ = ['DetNASNet', 'DetNASSupernet', 'Supernet', 'find_supernet']
