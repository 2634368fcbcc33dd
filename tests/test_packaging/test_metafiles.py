"""Files for mim: an index, and a metafile in every folder of configs."""

import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs'
FOLDERS = sorted(path for path in CONFIGS.iterdir() if path.is_dir() and path.name != '_base_')
INDEX = yaml.safe_load((ROOT / 'model-index.yml').read_text())


def test_the_index_names_every_metafile():
    assert sorted(INDEX['Import']) == [f'configs/{folder.name}/metafile.yml' for folder in FOLDERS]


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_metafile(folder):
    """One metafile without a ``Models`` key breaks every look-up of mim; a folder's name must be word characters."""
    assert re.fullmatch(r'\w+', folder.name)
    assert (folder / 'README.md').is_file()
    models = yaml.safe_load((folder / 'metafile.yml').read_text())['Models']
    for model in models:
        assert model['Name']
        assert (ROOT / model['Config']).is_file(), f'{model["Name"]}: there is no {model["Config"]}'


def test_names_of_configs_are_unique():
    """`mim train detnas_mm NAME.py` finds a config by its name alone."""
    names = Counter(path.name for path in CONFIGS.rglob('*.py') if '_base_' not in path.parts)
    assert not [name for name, count in names.items() if count > 1]


def test_links_that_mim_follows():
    folder = ROOT / 'detnas_mm' / '.mim'
    for name in ('configs', 'tools', 'model-index.yml'):
        assert (folder / name).resolve() == ROOT / name
