"""How a search runs: objectives, strategies, the ledger, the loop. Imports no torch."""

from detnas_mm.search.ledger import Ledger, LedgerError, read_ledger, read_snapshots, refuse_if_in_use
from detnas_mm.search.objective import (
    Budget,
    Constraint,
    Objective,
    UnmeetableConstraint,
    number_text,
    pareto_front,
    thinned,
)
from detnas_mm.search.population_searcher import PopulationSearcher
from detnas_mm.search.prefilter import Prefilter, Ranker, SurrogateRanker
from detnas_mm.search.record import Evaluation, Proposal, Record, Snapshot
from detnas_mm.search.searcher import Searcher
from detnas_mm.search.strategies import (
    EvolutionStrategy,
    ParetoStrategy,
    Population,
    PopulationEvolution,
    RandomStrategy,
    Strategy,
)

__all__ = [
    'Budget',
    'Constraint',
    'Evaluation',
    'EvolutionStrategy',
    'Ledger',
    'LedgerError',
    'Objective',
    'ParetoStrategy',
    'Population',
    'PopulationEvolution',
    'PopulationSearcher',
    'Prefilter',
    'Proposal',
    'RandomStrategy',
    'Ranker',
    'Record',
    'Searcher',
    'Snapshot',
    'Strategy',
    'SurrogateRanker',
    'UnmeetableConstraint',
    'number_text',
    'pareto_front',
    'read_ledger',
    'read_snapshots',
    'refuse_if_in_use',
    'thinned',
]
