"""Data sets. Digits, the embedded one, is in :mod:`detnas_mm.datasets.digits`; importing this package loads nothing."""
