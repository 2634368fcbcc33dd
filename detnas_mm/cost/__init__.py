"""Costs of architectures (MACs, parameters, memory, latency): tables that are built or measured once."""

from detnas_mm.cost.base import AdditiveTable, CostModel, MaximumTable, TableCost

__all__ = [
    'AdditiveTable',
    'CostModel',
    'MaximumTable',
    'TableCost',
]
