"""DetNAS (Chen et al., NeurIPS 2019): one-shot search of a detector's backbone."""

#: Public names and the modules that define them.
_PUBLIC = {
    'DetNASNet': 'model',
    'DetNASSpace': 'space',
    'DetNASSupernet': 'model',
    'MacsBinPathSampler': 'samplers',
    'MacsTable': 'costs',
    'ParamsTable': 'costs',
    'PeakMemoryTable': 'costs',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Loads a public name when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_PUBLIC[name]}'), name)
