"""The tools that compare structures, and score backbones of any config."""

import json
import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from detnas_mm.systems.mae_det import draw_structures
from detnas_mm.systems.mae_det.structure import read_structure, to_dicts
from detnas_mm.systems.mae_det.structure_files import read_dicts, read_file, write_file

TOOLS = Path(__file__).parents[2] / 'tools/analysis_tools'
TOOL = TOOLS / 'structures.py'


def run(monkeypatch, *arguments, tool=TOOL):
    monkeypatch.setattr(sys, 'argv', [str(tool), *map(str, arguments)])
    runpy.run_path(str(tool), run_name='__main__')


def test_it_compares_draws_and_writes(tmp_path, monkeypatch, capsys):
    write_file(tmp_path / 'two.txt', [read_structure('maedet-s'), read_structure('maedet-m')])
    (tmp_path / 'search').mkdir()
    (tmp_path / 'search/best.json').write_text(
        json.dumps([dict(arch='8k3s2|8k3s2x1b8|16k3s2x1b8|16k3s2x1b8|16k3s2x1b8')])
    )
    arguments = ['maedet-s', 'resnet50', tmp_path / 'two.txt', tmp_path / 'search']
    run(monkeypatch, *arguments, '--draw', tmp_path / 'a.png', '--write', tmp_path / 'new/all.txt')
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:6]] == [
        'structure', 'maedet-s', 'resnet50', 'two.txt[0]', 'two.txt[1]', 'search',
    ]  # fmt: skip
    assert lines[1].split()[1:] == ['1731.9070', '21,233,120', '10,883,750,400', '10,992,870,000', '79']
    assert lines[3].split()[1:] == lines[1].split()[1:]
    assert lines[2].split()[2] == '23,508,032', "torchvision's ResNet-50 without its classifier"
    assert (tmp_path / 'a.png').read_bytes()[:4] == b'\x89PNG'
    assert read_file(tmp_path / 'new/all.txt')[0] == read_structure('maedet-s')


def test_structures_of_grey_images(tmp_path, monkeypatch, capsys):
    """A file says the channels in its stems, a search in its space; both are counted and written again."""
    arch = '8k3s2|8k3s2x1b8|16k3s2x1b8|16k3s2x1b8|16k3s2x1b8'
    write_file(tmp_path / 'grey.txt', [to_dicts(read_structure(arch), 1)])
    (tmp_path / 'search').mkdir()
    (tmp_path / 'search/best.json').write_text(json.dumps([dict(arch=arch, space=dict(in_channels=1))]))
    names = [arch, tmp_path / 'grey.txt', tmp_path / 'search']
    run(monkeypatch, *names, '--weights', 1, 1, 1, 1, 1, '--write', tmp_path / 'new.txt')
    plain, *grey = (line.split()[1:] for line in capsys.readouterr().out.splitlines()[1:4])
    assert grey[0] == grey[1] and plain[4] == grey[0][4]
    assert float(plain[0]) - float(grey[0][0]) == pytest.approx(2.5 * np.log(3), abs=1e-3)
    params, macs = (
        int(one.replace(',', '')) - int(other.replace(',', '')) for one, other in zip(plain[1:3], grey[0][1:3])
    )
    assert (params, macs) == (2 * 9 * 8, 2 * 9 * 8 * 240 * 240)
    assert [dicts[0]['in'] for dicts in read_dicts(tmp_path / 'new.txt')] == [3, 1, 1]


def test_two_of_one_name_are_both_there(tmp_path, monkeypatch, capsys):
    for folder, name in (('a', 'maedet-s'), ('b', 'maedet-m')):
        (tmp_path / folder).mkdir()
        write_file(tmp_path / folder / 'best.txt', [read_structure(name)])
    run(monkeypatch, tmp_path / 'a/best.txt', tmp_path / 'b/best.txt')
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith('best.txt ') and '1731.9070' in lines[1]
    assert lines[2].startswith(f'{tmp_path}/b/best.txt: best.txt ') and '2114.7829' in lines[2]


def test_boxes_are_as_high_as_there_are_channels(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr('matplotlib.figure.Figure.savefig', lambda figure, *args, **kwargs: figures.append(figure))
    draw_structures({name: read_structure(name) for name in ('maedet-s', 'maedet-l')}, tmp_path / 'a.png')
    small, large = figures[0].axes
    assert [p.get_height() for p in small.patches][:5] == [32, 48, 32, 48, 32] and len(small.patches) == 1 + 2 * 26
    assert all(p.get_y() == 0 for p in small.patches) and small.get_ylim() == large.get_ylim()
    assert large.get_ylim()[0] == 0 and large.get_ylim()[1] > 2400
    texts = [text.get_text() for text in small.texts]
    assert '272\n3x3\nb120\n×4' in texts and {'C1', 'C2', 'C3', 'C4', 'C5'} <= set(texts)


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        (['maedet-xl'], 'error: Cannot read'),
        (['maedet-s', '--weights', '1', '1'], 'has 2 entries; .* have 5 stages'),
        (['.'], 'has no best.json'),
        (['maedet-s', '--write', '.'], 'error: .*directory'),
        (['maedet-s', '--draw', 'a.foo'], 'error: .*foo'),
    ],
)
def test_mistakes_end_in_one_line(arguments, match, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=match):
        run(monkeypatch, *arguments)


QUICK = ['--input-size', '64', '64', '--repeats', '1', '--rounds', '2', '--device', 'cpu']
LATENCY = r'latency of one image at 64x64: \d+\.\d\d ms, half of 2 rounds within .* \(.*thread.*\)'


def score(monkeypatch, *arguments):
    run(monkeypatch, *arguments, tool=TOOLS / 'score_backbone.py')


def test_backbones_of_any_config(tmp_path, monkeypatch, capsys):
    config = tmp_path / 'config.py'
    config.write_text("default_scope = 'mmdet'\nmodel = dict(backbone=dict(type='ResNet', depth=50, norm_cfg=dict("
                      "type='SyncBN'), init_cfg=None))\n")  # fmt: skip
    score(monkeypatch, config, *QUICK)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == 'ResNet: 23,508,032 parameters'
    assert [line.split(':')[0] for line in lines[2:6]] == [f'map {i}' for i in range(4)]
    assert re.fullmatch(LATENCY, lines[-1]) and len(lines) == 8
    config.write_text("model = dict(backbone=dict(type='detnas_mm.MAEDetNet', arch='maedet-init'))\n")
    score(monkeypatch, config, '--cfg-options', 'model.backbone.arch=maedet-s', *QUICK)
    lines = capsys.readouterr().out.splitlines()
    assert float(lines[-2].split()[-1]) == pytest.approx(1684.69, rel=0.005)  # with borders, see test_entropy.py
    with pytest.raises(SystemExit, match='--weights has 2 values for 4 feature maps'):
        score(monkeypatch, config, '--weights', '1', '1', *QUICK)
    config.write_text('model = dict()\n')
    with pytest.raises(SystemExit, match='has no model.backbone'):
        score(monkeypatch, config)


@pytest.mark.parametrize(
    ('backbone', 'params', 'linear'),
    [
        (['mmdet.ResNet', '--cfg-options', 'depth=18', 'base_channels=8'], None, 0),
        (['mmpretrain.MobileNetV2'], 2_223_872, 0),  # torchvision's without its classifier
        (['mmpretrain.PoolFormer', '--cfg-options', 'arch=s12'], None, 0),
        (['mmpretrain.SwinTransformer', '--cfg-options', 'arch=tiny', 'pad_small_map=True'], None, 51),
        (['detnas_mm.MAEDetNet', '--cfg-options', 'arch=8k3s2|8k3s2x1b8|16k3s2x2b8'], None, 0),
    ],
)
def test_backbones_by_their_types(backbone, params, linear, monkeypatch, capsys):
    score(monkeypatch, *backbone, *QUICK)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'{backbone[0]}: {f"{params:,}" if params else ""}') and 'multiply-adds' in lines[1]
    assert [f'{linear} linear layers' in line for line in lines].count(True) == (linear > 0)
    assert lines[-2].startswith('multi-scale entropy at 64x64') and re.fullmatch(LATENCY, lines[-1])


@pytest.mark.parametrize(
    ('backbone', 'match'),
    [
        (
            ['ResNet'],
            'neither a config file nor the type of a registered backbone with its scope, such as mmdet.ResNet',
        ),
        (['mmdet.NoSuchNet'], 'neither a config file nor the type of a registered'),
        (['no/such/config.py'], 'neither a config file'),
        (['mmdet.ResNet', '--cfg-options', 'depth=51'], r'mmdet.ResNet cannot be built: .*invalid depth 51'),
        (['detnas_mm.MAEDetNet', '--cfg-options', 'arch=8k3s2|8k4s2x1b8'], 'kernels must be odd'),
        (
            ['mmpretrain.SwinTransformer', '--input-size', '64', '64'],
            r'cannot be run at 64x64: AssertionError: The input shape \(4, 4\)',
        ),
        (['mmdet.ResNet', '--cfg-options', 'depth=18', '--rounds', '1'], 'rounds must be at least 2'),
        (['mmdet.ResNet', '--cfg-options', 'depth=18', '--weights', '0', '-1', '1', '6'], 'numbers of at least 0'),
        (['mmdet.ResNet', '--cfg-options', 'depth=18', '--weights', '0', 'nan', '1', '6'], 'numbers of at least 0'),
    ],
)
def test_what_is_no_backbone_ends_in_one_line(backbone, match, monkeypatch):
    with pytest.raises(SystemExit, match=match):
        score(monkeypatch, *backbone)
