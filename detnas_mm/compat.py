"""Requirements on the installed stack (torch, OpenMMLab), and differences between its versions.

Nothing here imports torch or mmcv before it is called.
"""

import contextlib
import ctypes
import importlib
import importlib.util
import logging
import os
import signal
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.version import Version

from detnas_mm.checkpoints import declare_safe_globals
from detnas_mm.errors import DetNASError, MissingFileError
from detnas_mm.substitution import take_as_they_stand

# Two families of distributions provide the same import names. Each has its own range: lowest version that works,
# first that does not. The ranges must equal those of setup.cfg's extras (tested).
FAMILIES: dict[str, dict[str, tuple[str, str, str]]] = {
    'onedl': {
        'mmengine': ('onedl-mmengine', '0.10.12', '1'),
        'mmcv': ('onedl-mmcv', '2.3.6', '2.4'),
        'mmdet': ('onedl-mmdetection', '3.5.1', '4'),
        'mmpretrain': ('onedl-mmpretrain', '1.3.6', '2'),
    },
    'openmmlab': {
        'mmengine': ('mmengine', '0.10.7', '1'),
        'mmcv': ('mmcv', '2.0.1', '2.2'),
        'mmdet': ('mmdet', '3.3.0', '3.4'),
        'mmpretrain': ('mmpretrain', '1.2.0', '1.3'),
    },
}
TORCH_MINIMUM = '2.6'  # from this version on torch.load's list of safe classes accepts names
#: Names of notebooks' matplotlib backends, and their packages.
_BACKENDS = {'inline': 'matplotlib_inline', 'widget': 'ipympl', 'ipympl': 'ipympl'}
SETUP = 'bash tools/setup_env.sh'


class StackError(ImportError, DetNASError):
    """The installed stack cannot run detnas_mm; the message gives the reason and the command that fixes it."""


def _remedy(family: str, module: str) -> str:
    """Returns the command that fixes ``module`` in this environment, and the one that makes a new environment."""
    setup = SETUP if family == 'onedl' else f'{SETUP} --family {family}'
    if module == 'torch':
        command = f"pip install 'torch>={TORCH_MINIMUM}' torchvision"
    else:
        distribution, lowest, ceiling = FAMILIES[family][module]
        command = f"pip install '{distribution}>={lowest},<{ceiling}'"
    if module == 'mmcv':  # pip's isolated build has no torch, and mmcv is then built without operators
        command = command.replace(
            'pip install',
            'CUDA_VISIBLE_DEVICES= FORCE_CUDA=0 MMCV_WITH_OPS=1 pip install --no-build-isolation --no-deps '
            '--no-cache-dir --force-reinstall',
        )
    return f'fix this environment with: {command}, or make a new one, in a checkout of detnas_mm, with: {setup}'


def installed_version(distribution: str) -> str | None:
    """Returns a distribution's version from its metadata, or None if it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def find_family() -> str:
    """Returns the installed family of OpenMMLab distributions: 'onedl' or 'openmmlab'.

    Raises:
        StackError: If distributions of both are installed.
    """
    found = {
        family: [entry[0] for entry in entries.values() if installed_version(entry[0])]
        for family, entries in FAMILIES.items()
    }
    if found['onedl'] and found['openmmlab']:
        raise StackError(
            f'{", ".join(found["onedl"])} and {", ".join(found["openmmlab"])} are installed side by side but provide '
            f'the same import names; make an environment with one family with: DETNAS_VENV=<new folder> {SETUP}'
        )
    return 'openmmlab' if found['openmmlab'] else 'onedl'


def require(module: str) -> None:
    """Checks that a module of OpenMMLab can be found, without importing it.

    Raises:
        StackError: If not. The message gives the command that installs it.
    """
    if importlib.util.find_spec(module) is None:
        family = find_family()
        raise StackError(f'{module} ({FAMILIES[family][module][0]}) is not installed; {_remedy(family, module)}')


def _check_versions(family: str) -> None:
    torch_version = installed_version('torch')
    if torch_version is None and importlib.util.find_spec('torch') is None:
        raise StackError(f'torch is not installed; {_remedy(family, "torch")}')
    if torch_version is not None and Version(torch_version) < Version(TORCH_MINIMUM):
        raise StackError(f'torch {torch_version} is installed, not >={TORCH_MINIMUM}; {_remedy(family, "torch")}')
    for module, (distribution, lowest, ceiling) in FAMILIES[family].items():
        found = installed_version(distribution)
        if found is None:
            require(module)
            continue  # a source tree on the path has no metadata, so its version is not checked
        if not Version(lowest) <= Version(found) < Version(ceiling):
            raise StackError(
                f'{distribution} {found} is installed, not >={lowest},<{ceiling}; {_remedy(family, module)}'
            )


def _check_operators(family: str) -> None:
    importlib.import_module('torch')  # operators are linked against its libraries
    try:
        extension = importlib.import_module('mmcv._ext')
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError)
        reason = 'has no compiled operators' if missing else f'cannot load its compiled operators ({error})'
        raise StackError(f'the installed mmcv {reason}; {_remedy(family, "mmcv")}') from error
    if not cuda_usable(extension):
        _fall_back_to_cpu()


def cuda_usable(extension: Any = None) -> bool:
    """Returns True if torch sees a GPU and mmcv's operators were compiled for it.

    Args:
        extension: The module ``mmcv._ext``. Defaults to None, which imports it.
    """
    torch = importlib.import_module('torch')
    if not torch.cuda.is_available():
        return False
    extension = extension or importlib.import_module('mmcv._ext')
    return extension.get_compiling_cuda_version() != 'not available'


def _fall_back_to_cpu() -> None:
    """Makes mmengine choose the CPU, with a warning, if mmcv's operators do not support the GPU."""
    if not importlib.import_module('torch').cuda.is_available():
        return
    # mmengine determines its device on import, and every Runner calls get_device().
    device: Any = importlib.import_module('mmengine.device.utils')
    device.DEVICE = 'cpu'
    logging.getLogger('detnas_mm').warning(
        'There is a GPU, but the operators of the installed mmcv were compiled without CUDA: running on the CPU. '
        'To use the GPU, put the nvcc of torch.version.cuda on PATH and set up a fresh environment: %s',
        f'DETNAS_VENV=<new folder> {SETUP}',
    )


def draw_to_files_alone() -> None:
    """Makes matplotlib import if ``$MPLBACKEND`` names a notebook's module that is not installed.

    Notebooks set the variable for all processes that they start, and importing matplotlib fails there.
    """
    name = os.environ.get('MPLBACKEND', '')
    package = _BACKENDS.get(name) or name.removeprefix('module://').partition('.')[0]
    if (name in _BACKENDS or name.startswith('module://')) and importlib.util.find_spec(package or '?') is None:
        os.environ['MPLBACKEND'] = 'Agg'


@cache
def check_stack() -> str:
    """Checks torch, mmengine, mmcv with its compiled operators, mmdet and mmpretrain, once a process.

    Called by the parts of the package that need the stack (models, engine, evaluators) and by the tools. Also declares
    mmengine's log classes safe to load, see :func:`declare_safe_globals`.

    Returns:
        The family in use, 'onedl' or 'openmmlab'.

    Raises:
        StackError: With one sentence and the command that fixes it, if something is missing, of a version outside the
            range, of two families at once, or if mmcv has no compiled operators.
    """
    family = find_family()
    _check_versions(family)
    _check_operators(family)
    make_known_to_mmengine()
    declare_safe_globals()
    return family


def make_known_to_mmengine() -> None:
    """Lets configs inherit by ``_base_ = 'detnas_mm::folder/name.py'``, and use environment values with quotes.

    mmengine finds packages by a table, and 0.10.7 does not find editable installs. Configs inherited from a package are
    built in the scope of that package only, where ``CocoDataset`` is unknown; but configs of this package are written
    for the scope of their ``default_scope``, mmdet's or mmpretrain's, with ``detnas_mm.`` before names of this package.
    """
    try:
        from mmengine.config import Config
        from mmengine.config.utils import MODULE2PACKAGE
    except ImportError:  # without mmengine there are no configs; spaces and ledgers still work
        return
    if 'detnas_mm' in MODULE2PACKAGE:
        return
    MODULE2PACKAGE['detnas_mm'] = 'detnas_mm'
    find = Config._get_cfg_path

    def find_own(cfg_path: str, filename: str) -> tuple[str, str | None]:
        if not cfg_path.startswith('detnas_mm::'):
            return find(cfg_path, filename)
        path = Path(__file__).parent / '.mim' / 'configs' / cfg_path.removeprefix('detnas_mm::')
        if not path.is_file():
            raise MissingFileError(f'{filename} inherits {cfg_path}, but there is no {path}.')
        return str(path), None

    Config._get_cfg_path = staticmethod(find_own)
    take_as_they_stand(Config)


def process_group_store() -> Any:
    """Returns the store of the process group, whose counters are atomic."""
    from torch.distributed import distributed_c10d

    return distributed_c10d._get_default_store()  # torch has no public name for it


def end_with_parent() -> None:
    """Makes this process end with its parent, even if that is killed; on Linux only."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # the last on Windows
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
