"""Registers the costs of structures."""

from detnas_mm.systems.mae_det.counts import (
    StructureCost,
    StructureDepthToWidth,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)
from detnas_mm.systems.mae_det.structure_latency import StructureLatency

__all__ = [
    'StructureCost',
    'StructureDepthToWidth',
    'StructureFlops',
    'StructureLatency',
    'StructureLayers',
    'StructureMacs',
    'StructureParams',
]
