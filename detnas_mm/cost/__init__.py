"""What architectures cost: tables that are built once and added up."""

from detnas_mm.cost.base import AdditiveTable, CostModel
from detnas_mm.cost.macs import MacsTable, ParamsTable

__all__ = ['AdditiveTable', 'CostModel', 'MacsTable', 'ParamsTable']
