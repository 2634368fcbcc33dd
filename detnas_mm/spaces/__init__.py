"""What can be found: search spaces and architectures. Imports no torch."""

from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import ArraySpace, SearchSpace
from detnas_mm.spaces.detnas import DetNASSpace
from detnas_mm.spaces.mae_det import MAEDetSpace

__all__ = ['Architecture', 'ArraySpace', 'DetNASSpace', 'MAEDetSpace', 'SearchSpace']
