"""Plots of searches, Pareto fronts and detections."""

from detnas_mm.visualization.detections import draw_detections, picture_detections
from detnas_mm.visualization.front import plot_front
from detnas_mm.visualization.fronts import Mark, plot_fronts
from detnas_mm.visualization.progress import plot_population, plot_progress

__all__ = [
    'Mark',
    'draw_detections',
    'picture_detections',
    'plot_front',
    'plot_fronts',
    'plot_population',
    'plot_progress',
]
