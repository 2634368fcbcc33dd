"""What architectures cost: tables that are built or measured once, and looked up."""

from detnas_mm.cost.base import AdditiveTable, CostModel, MaximumTable, TableCost
from detnas_mm.cost.latency import LatencyTable
from detnas_mm.cost.macs import MacsTable, ParamsTable
from detnas_mm.cost.memory import PeakMemoryTable

__all__ = [
    'AdditiveTable',
    'CostModel',
    'LatencyTable',
    'MacsTable',
    'MaximumTable',
    'ParamsTable',
    'PeakMemoryTable',
    'TableCost',
]
