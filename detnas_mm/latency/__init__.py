"""Latency: measured on the device at hand, kept in files, and used as a cost. What is imported here loads no torch."""

from detnas_mm.latency.file import MeasuredLatency
from detnas_mm.latency.net_cost import NetMacs
from detnas_mm.latency.nets import NetLatency
from detnas_mm.latency.table import LatencyTable

__all__ = ['LatencyTable', 'MeasuredLatency', 'NetLatency', 'NetMacs']
