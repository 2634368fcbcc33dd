"""SM-NAS (Yao et al., AAAI 2020): searches combinations of modules and input size, then the modules themselves."""

#: Public names and the modules that define them.
_PUBLIC = {
    'BlockCode': 'codes',
    'ModularSpace': 'modular',
    'ModularStrategy': 'strategies',
    'SMNASBackbone': 'model',
    'StructuralSpace': 'space',
    'backbone_outputs': 'asking',
    'check_detector': 'checking',
    'check_loss': 'first_step',
    'check_seed': 'checking',
    'from_scratch': 'recipe',
    'ga_rpn_head': 'ga_rpn',
    'res_layer': 'shared_head',
}
__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Imports the module of a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module

    return getattr(import_module(f'{__name__}.{_PUBLIC[name]}'), name)
