"""What can be found: search spaces and architectures. Imports no torch."""

from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import ArraySpace, SearchSpace

__all__ = ['Architecture', 'ArraySpace', 'SearchSpace']
