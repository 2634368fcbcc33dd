"""What architectures cost: tables that are built once and added up."""

from detnas_mm.cost.base import AdditiveTable, CostModel
from detnas_mm.cost.blocks import BlockSum
from detnas_mm.cost.macs import MacsTable, ParamsTable
from detnas_mm.cost.structure import (
    StructureCost,
    StructureDepthToWidth,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)

__all__ = [
    'AdditiveTable',
    'BlockSum',
    'CostModel',
    'MacsTable',
    'ParamsTable',
    'StructureCost',
    'StructureDepthToWidth',
    'StructureFlops',
    'StructureLayers',
    'StructureMacs',
    'StructureParams',
]
