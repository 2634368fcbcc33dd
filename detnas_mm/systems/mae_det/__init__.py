"""MAE-DET (Sun et al., ICML 2022): training-free search for backbones of maximum entropy."""

#: Public names and the modules that define them.
_PUBLIC = {
    'DeepMADScore': 'evaluators',
    'EntropyScore': 'evaluators',
    'ExactStrategy': 'strategies',
    'MAEDetNet': 'model',
    'MAEDetSpace': 'space',
    'StructureCost': 'costs',
    'StructureDepthToWidth': 'costs',
    'StructureFlops': 'costs',
    'StructureLatency': 'costs',
    'StructureLayers': 'costs',
    'StructureMacs': 'costs',
    'StructureParams': 'costs',
    'draw_structures': 'pictures',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Loads a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_PUBLIC[name]}'), name)
