"""Conformance suites: what to run on a new search space before searching in it."""

from detnas_mm.testing.spaces import check_search_space

__all__ = ['check_search_space']
