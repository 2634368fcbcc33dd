"""Search spaces and architectures. Imports no torch."""

from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.base import ArraySpace, SearchSpace
from detnas_mm.spaces.choice import ChoiceSpace

__all__ = ['Architecture', 'ArraySpace', 'ChoiceSpace', 'SearchSpace']
