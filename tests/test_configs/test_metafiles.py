"""Metafiles for mim: every config is listed once, under its own name, with correct data."""

import re
from collections import Counter

import pytest
import yaml

from detnas_mm import zoo

from .leaves import DETNAS, LEAVES, ROOT

FOLDERS = sorted({path.parent for path in LEAVES.values()})
INDEX = ROOT / 'model-index.yml'


def models(folder):
    return yaml.safe_load((folder / 'metafile.yml').read_text())['Models']


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_lists_every_config_and_nothing_else(folder):
    listed = Counter(model['Name'] for model in models(folder))
    assert listed == Counter(path.stem for path in LEAVES.values() if path.parent == folder)
    for model in models(folder):
        assert model['Config'] == f'configs/{folder.name}/{model["Name"]}.py'


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_readme_names_every_config(folder):
    """In backticks, once and with its suffix; ``{a,b}`` means both."""
    patterns = re.findall(
        r'`((?:detnas|maedet|resnet|nats|ic-conv|edo|smnas)[\w{}.,-]*\.py)`', (folder / 'README.md').read_text()
    )
    named = Counter(name.removesuffix('.py') for pattern in patterns for name in expand(pattern))
    assert named == Counter(path.stem for path in LEAVES.values() if path.parent == folder)


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_readme_names_checkpoints_that_will_be_there(folder, load):
    found = re.findall(r'work_dirs/([\w-]+)/iter_(\d+)\.pth', (folder / 'README.md').read_text())
    assert found
    for name, iterations in found:
        assert load(name).train_cfg.max_iters == int(iterations), name


def expand(pattern):
    """The names that a shell makes of one with braces."""
    found = re.search(r'{([^}]*)}', pattern)
    if not found:
        return [pattern]
    return [
        name
        for part in found[1].split(',')
        for name in expand(pattern[: found.start()] + part + pattern[found.end() :])
    ]


def test_names_are_unique():
    """`mim train detnas_mm NAME.py` looks for a name alone; a dot or a folder with a hyphen breaks look-ups."""
    paths = list((ROOT / 'configs').glob('[!_]*/*.py'))
    assert len(paths) == len(LEAVES)
    assert not [path.stem for path in paths if '.' in path.stem or '-' in path.parent.name]


def test_mim_reads_the_index():
    load_model_index = pytest.importorskip('modelindex.load_model_index')
    index = load_model_index.load(str(INDEX))
    assert {model.name for model in index.models} == set(LEAVES)
    collections = {collection.name for collection in index.collections}
    assert {model.in_collection for model in index.models} <= collections
    search = pytest.importorskip('mim.commands.search')
    table = search.convert2df(index)
    assert set(table.index) == set(LEAVES)
    assert (table['config'] == [f'configs/{LEAVES[name].parent.name}/{name}.py' for name in table.index]).all()


def test_totals_of_published_nets(load):
    """FLOPs (multiply-adds) and parameters are the zoo's; other models have none."""
    published = {model['Name']: model['Metadata'] for model in models(ROOT / 'configs' / 'detnas')}
    published = {name: data for name, data in published.items() if 'FLOPs' in data}
    kinds = ('supernet', 'search', 'net')
    assert set(published) == {name for name in DETNAS if name.split('_')[1].split('-')[0] not in kinds}
    for name, data in published.items():
        net = zoo.get(load(name).model.backbone.arch)
        assert (data['FLOPs'], data['Parameters']) == (net.macs, net.params)
