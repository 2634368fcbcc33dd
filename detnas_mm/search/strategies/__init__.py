"""Search strategies: random, evolution, Pareto, population."""

from detnas_mm.search.strategies.ask_tell import AskTell
from detnas_mm.search.strategies.base import Strategy
from detnas_mm.search.strategies.evolution import EvolutionStrategy
from detnas_mm.search.strategies.listed import ListStrategy
from detnas_mm.search.strategies.members import Population
from detnas_mm.search.strategies.pareto import ParetoStrategy
from detnas_mm.search.strategies.population import PopulationEvolution
from detnas_mm.search.strategies.proving import ProvingStrategy
from detnas_mm.search.strategies.random import RandomStrategy

__all__ = [
    'AskTell',
    'EvolutionStrategy',
    'ListStrategy',
    'ParetoStrategy',
    'Population',
    'PopulationEvolution',
    'ProvingStrategy',
    'RandomStrategy',
    'Strategy',
]
