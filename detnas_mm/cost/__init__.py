"""What architectures cost: tables that are built or measured once, and looked up."""

from detnas_mm.cost.base import AdditiveTable, CostModel, MaximumTable, TableCost
from detnas_mm.cost.blocks import BlockSum
from detnas_mm.cost.latency import LatencyTable
from detnas_mm.cost.latency_file import MeasuredLatency
from detnas_mm.cost.macs import MacsTable, ParamsTable
from detnas_mm.cost.memory import PeakMemoryTable
from detnas_mm.cost.structure import (
    StructureCost,
    StructureDepthToWidth,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)
from detnas_mm.cost.structure_latency import StructureLatency

__all__ = [
    'AdditiveTable',
    'BlockSum',
    'CostModel',
    'LatencyTable',
    'MacsTable',
    'MaximumTable',
    'MeasuredLatency',
    'ParamsTable',
    'PeakMemoryTable',
    'StructureCost',
    'StructureDepthToWidth',
    'StructureFlops',
    'StructureLatency',
    'StructureLayers',
    'StructureMacs',
    'StructureParams',
    'TableCost',
]
