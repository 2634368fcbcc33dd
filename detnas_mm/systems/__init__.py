"""One folder a published system: what a paper adds to the core, which imports none of them.

A system's ``__init__.py`` imports nothing: its public names are loaded on first use, so that its ``space.py`` can be
imported without torch. Registries find what a system adds by the names of its files, see :mod:`detnas_mm.registry`.
"""
