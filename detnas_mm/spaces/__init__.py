"""What can be found: search spaces and architectures. Imports no torch."""

from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import SearchSpace
from detnas_mm.spaces.detnas import DetNASSpace

__all__ = ['Architecture', 'DetNASSpace', 'SearchSpace']
