"""Pictures of a search and of what it found."""

from detnas_mm.visualization.progress import plot_progress

__all__ = ['plot_progress']
