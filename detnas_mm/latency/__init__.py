"""Latency as a cost: measured on a device and kept in files. Imports no torch."""

from detnas_mm.latency.file import MeasuredLatency
from detnas_mm.latency.net_cost import NetMacs
from detnas_mm.latency.nets import NetLatency
from detnas_mm.latency.table import LatencyTable

__all__ = ['LatencyTable', 'MeasuredLatency', 'NetLatency', 'NetMacs']
