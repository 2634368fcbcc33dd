"""What architectures cost: tables that are built or measured once, and looked up."""

from detnas_mm.cost.base import AdditiveTable, CostModel, MaximumTable, TableCost

__all__ = [
    'AdditiveTable',
    'CostModel',
    'MaximumTable',
    'TableCost',
]
