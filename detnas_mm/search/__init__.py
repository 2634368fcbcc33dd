"""Search: objectives, strategies, the ledger, the loop. Imports no torch."""

from detnas_mm.search.budget import Budget, Constraint, UnmeetableConstraint
from detnas_mm.search.evaluator import ArrayEvaluator, Evaluator
from detnas_mm.search.job import CONFIG, LEDGER, ExportSettings, NetWriter, SearchJob
from detnas_mm.search.ledger import Ledger, refuse_if_in_use
from detnas_mm.search.ledger_file import LedgerError, read_ledger, read_snapshots
from detnas_mm.search.objective import Objective, pareto_front, thinned
from detnas_mm.search.prefilter import Prefilter, Ranker, SurrogateRanker
from detnas_mm.search.record import Evaluation, Proposal, Record, Snapshot
from detnas_mm.search.strategies import (
    AskTell,
    EvolutionStrategy,
    ListStrategy,
    ParetoStrategy,
    Population,
    PopulationEvolution,
    ProvingStrategy,
    RandomStrategy,
    Strategy,
)
from detnas_mm.search.text import cost_text, counted, number_text

__all__ = [
    'CONFIG',
    'LEDGER',
    'ArrayEvaluator',
    'AskTell',
    'Budget',
    'Constraint',
    'Evaluation',
    'Evaluator',
    'EvolutionStrategy',
    'ExportSettings',
    'Ledger',
    'LedgerError',
    'ListStrategy',
    'NetWriter',
    'Objective',
    'ParetoStrategy',
    'Population',
    'PopulationEvolution',
    'ProvingStrategy',
    'Prefilter',
    'Proposal',
    'RandomStrategy',
    'Ranker',
    'Record',
    'SearchJob',
    'Snapshot',
    'Strategy',
    'SurrogateRanker',
    'UnmeetableConstraint',
    'cost_text',
    'counted',
    'number_text',
    'pareto_front',
    'read_ledger',
    'read_snapshots',
    'refuse_if_in_use',
    'thinned',
]
