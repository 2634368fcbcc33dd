"""The sdist and the wheel: what is in them, and that the wheel works where the checkout is not."""

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.packaging


def run(*command, cwd, **options):
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, **options)
    assert result.returncode == 0, f'{command} failed:\n{result.stdout}\n{result.stderr}'
    return result.stdout


@pytest.fixture(scope='module')
def distributions(tmp_path_factory):
    """The sdist of a copy of the tracked and new files, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp('distributions')
    source = folder / 'source'
    listed = run('git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard', cwd=ROOT)
    for name in filter(None, listed.split('\0')):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    run(sys.executable, '-m', 'build', '--no-isolation', '--outdir', folder, source, cwd=folder)
    return next(folder.glob('*.tar.gz')), next(folder.glob('*.whl'))


def expected(folder, *suffixes):
    return {
        f'detnas_mm/.mim/{path.relative_to(ROOT).as_posix()}'
        for path in (ROOT / folder).rglob('*')
        if path.suffix in suffixes and '__pycache__' not in path.parts
    }


def test_wheel_holds_real_copies_of_what_mim_reads(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
        links = [info.filename for info in wheel.infolist() if (info.external_attr >> 16) & 0o170000 == 0o120000]
        index = wheel.read('detnas_mm/.mim/model-index.yml')
    assert not links
    assert index == (ROOT / 'model-index.yml').read_bytes()
    assert expected('configs', '.py', '.md', '.yml') <= names
    assert expected('tools', '.py', '.sh') <= names
    assert not [name for name in names if '__pycache__' in name or name.startswith(('tests/', 'tools/', 'configs/'))]


def test_wheel_holds_every_module_and_its_data(distributions):
    with zipfile.ZipFile(distributions[1]) as wheel:
        names = set(wheel.namelist())
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'detnas_mm').rglob('*.py')}
    modules = {name for name in modules if '/.mim/' not in name}
    data = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'detnas_mm' / 'systems').rglob('*.json')}
    assert modules <= names and data <= names and data
    assert 'detnas_mm/py.typed' in names  # type checkers read the package's own hints


def test_sdist_builds_alone(distributions):
    with tarfile.open(distributions[0]) as sdist:
        names = {name.split('/', 1)[-1] for name in sdist.getnames()}
    files = ['LICENSE', 'README.md', 'CHANGELOG.md', 'CITATION.cff', 'setup.cfg', 'model-index.yml']
    assert {*files, 'requirements/constraints.txt', 'docs/README.md', 'detnas_mm/py.typed'} <= names


def test_wheel_works_without_the_checkout(distributions, tmp_path):
    """Installed somewhere else: light imports, and configs found by ``detnas_mm::``."""
    site = tmp_path / 'site'
    run(sys.executable, '-m', 'pip', 'install', '-q', '--no-deps', '--target', site, distributions[1], cwd=tmp_path)
    assert not [path for path in site.rglob('*') if path.is_symlink()]
    configs = [path.relative_to(ROOT / 'configs').as_posix() for path in (ROOT / 'configs').rglob('*.py')]
    leaf = sorted(name for name in configs if not name.startswith('_base_'))[0]
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import detnas_mm
assert detnas_mm.__file__.startswith({str(site)!r}), detnas_mm.__file__
from mmengine.config import Config
from mmengine.utils import get_installed_path
assert get_installed_path('detnas_mm') == {str(site / 'detnas_mm')!r}, get_installed_path('detnas_mm')
open('child.py', 'w').write("_base_ = 'detnas_mm::{leaf}'\\nwork_dir = 'mine'\\n")
config = Config.fromfile('child.py')
assert config.work_dir == 'mine' and len(config) > 1
"""
    run(sys.executable, '-c', code, cwd=tmp_path)
