"""NATS (Peng et al., NeurIPS 2019) and IC-Conv (Liu et al., CVPR 2021): search the dilations of a backbone."""

#: Public names and the modules that define them.
_PUBLIC = {
    'AlphaOptimWrapperConstructor': 'optim',
    'AlternatingTrainLoop': 'loops',
    'DilatedConv2d': 'layers',
    'DilationSpace': 'space',
    'EDOStrategy': 'strategies',
    'MixedConv2d': 'layers',
    'NATSSearchHook': 'hooks',
    'RepresentationError': 'evaluators',
    'SearchedConv': 'convs',
    'dilated_backbone': 'model',
    'dilated_supernet': 'model',
    'enlarged_backbone': 'enlarged',
    'searched_convs': 'plain',
    'sort_channels': 'sorting',
    'sort_dilations': 'sorted_export',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Loads a public name on first access."""
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_PUBLIC[name]}'), name)
