"""Detector architecture search for OpenMMLab.

Importing the package loads neither torch nor mmcv, so search spaces, ledgers and reports are quick to open.
:func:`detnas_mm.compat.check_stack` checks the installed stack when the first model, hook or evaluator needs it.
"""

from detnas_mm.compat import draw_to_files_alone, make_known_to_mmengine
from detnas_mm.version import __version__

draw_to_files_alone()
make_known_to_mmengine()

__all__ = ['__version__']
