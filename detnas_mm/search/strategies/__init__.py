"""How a space is looked through."""

from detnas_mm.search.strategies.base import Strategy
from detnas_mm.search.strategies.evolution import EvolutionStrategy
from detnas_mm.search.strategies.pareto import ParetoStrategy
from detnas_mm.search.strategies.population import Population, PopulationEvolution
from detnas_mm.search.strategies.random import RandomStrategy

__all__ = [
    'EvolutionStrategy',
    'ParetoStrategy',
    'Population',
    'PopulationEvolution',
    'RandomStrategy',
    'Strategy',
]
