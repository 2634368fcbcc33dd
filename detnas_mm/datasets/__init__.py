"""Data sets. Digits, the embedded one, is :mod:`detnas_mm.datasets.digits`; nothing is imported beforehand."""
