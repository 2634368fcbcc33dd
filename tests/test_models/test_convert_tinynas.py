"""Checkpoints with the keys of MAE-DET's authors: the converted net computes the same; what does not fit is listed."""

import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from tinynas_reference import randomised

from detnas_mm.systems.mae_det import MAEDetNet
from detnas_mm.systems.mae_det.convert_tinynas import convert
from detnas_mm.systems.mae_det.structure import read_structure, to_dicts, to_text

TOOL = Path(__file__).parents[2] / 'tools/model_converters/tinynas_to_detnas_mm.py'
TEXT = '8k3s2|16k5s2x2b8|24k3s2x3b16|24k3s1x1b8|40k5s2x1b24'
STRIDES = (2, 2, 2, 1, 2)


@pytest.fixture(scope='module')
def reference():
    return randomised(to_dicts(read_structure(TEXT)))


def prefixed(state_dict, prefix='backbone.body.'):
    return {prefix + key: value for key, value in state_dict.items()}


@pytest.mark.parametrize('prefix', ['', 'backbone.body.', 'module.backbone.body.'])
def test_the_converted_net_computes_the_same(reference, prefix):
    converted = convert(prefixed(reference.state_dict(), prefix), STRIDES)
    assert converted.meta['arch'] == TEXT and converted.meta['name'] is None and converted.dropped == ()
    net = MODELS.build(converted.meta['backbone']).eval()
    net.load_state_dict(converted.state_dict)
    images = torch.randn(2, 3, 64, 96)
    torch.testing.assert_close(net(images)[-1], reference(images))


def test_a_published_net_is_recognised_and_needs_no_strides():
    with torch.device('meta'):
        own = {k: torch.empty_like(v, device='cpu') for k, v in MAEDetNet('maedet-s').state_dict().items()}
    state = {}
    for key, value in own.items():
        block, _, rest = key.partition('.')
        if block == 'stem':
            key = f'block_list.0.{rest.replace("conv.", "conv1.").replace("bn.", "bn1.")}'
        else:
            i, j, name, layer, part = rest.split('.')
            name = 'residual_proj' if name == 'shortcut' else name
            key = f'block_list.{int(i) + 1}.block_list.{j}.{name}.{layer}1.{part}'
        state[key] = value
    converted = convert(state)
    assert converted.meta['name'] == 'maedet-s'
    assert converted.meta['backbone'] == dict(type='detnas_mm.MAEDetNet', arch='maedet-s')
    assert set(converted.state_dict) == set(own)


def test_other_nets_need_strides(reference):
    with pytest.raises(ValueError, match='weights do not show the strides: use --strides'):
        convert(reference.state_dict())
    with pytest.raises(ValueError, match='has 2 entries; the stem and 4 super-blocks'):
        convert(reference.state_dict(), (2, 2))
    assert to_text(read_structure(convert(reference.state_dict(), (2, 2, 1, 1, 1)).meta['arch'])) != TEXT


def test_what_has_no_place_and_what_is_missing_is_listed(reference):
    state = reference.state_dict()
    lacking = {k: v for k, v in state.items() if k != 'block_list.2.block_list.1.conv3.bn1.running_var'}
    with pytest.raises(ValueError, match=r'missing:\n  x.block_list.2.block_list.1.conv3.bn1.running_var'):
        convert(prefixed(lacking, 'x.'), STRIDES)
    more = state | {'block_list.2.block_list.1.se.weight': torch.zeros(1)}
    with pytest.raises(ValueError, match=r'unknown:\n  block_list.2.block_list.1.se.weight'):
        convert(more, STRIDES)
    with pytest.raises(ValueError, match='not belong to the backbone cannot be converted .1.*\n  neck.conv.weight'):
        convert(prefixed(state) | {'neck.conv.weight': torch.zeros(1)}, STRIDES)
    kept = convert(prefixed(state) | {'neck.conv.weight': torch.zeros(1)}, STRIDES, backbone_only=True)
    assert kept.dropped == ('neck.conv.weight',)
    strange = prefixed(state, 'backbone.body.') | {'backbone.body.fc.weight': torch.zeros(1)}
    for backbone_only in (False, True):
        with pytest.raises(ValueError, match='Tensors of the backbone that do not exist .*\n  backbone.body.fc.weight'):
            convert(strange, STRIDES, backbone_only)


def test_shapes_that_do_not_fit_and_gaps_are_refused(reference):
    state = reference.state_dict()
    wrong = state | {'block_list.2.block_list.2.conv1.conv1.weight': torch.zeros(16, 99, 1, 1)}
    with pytest.raises(ValueError, match=r'do not fit .*\n  blocks.1.2.conv1.conv.weight: \(16, 99, 1, 1\)'):
        convert(wrong, STRIDES)
    gap = {k: v for k, v in state.items() if not k.startswith('block_list.2.')}
    with pytest.raises(ValueError, match='without gaps'):
        convert(gap, STRIDES)
    with pytest.raises(ValueError, match='Expected one backbone .* found 0'):
        convert({'weight': torch.zeros(1)})
    with pytest.raises(ValueError, match='Expected one backbone .* found 2'):
        convert(prefixed(state) | prefixed(state, 'ema.'), STRIDES)


def test_counters_of_old_checkpoints_may_be_missing(reference):
    state = {k: v for k, v in reference.state_dict().items() if not k.endswith('num_batches_tracked')}
    assert convert(state, STRIDES).state_dict['stem.bn.num_batches_tracked'] == 0


def tool(monkeypatch, *arguments):
    monkeypatch.setattr(sys, 'argv', [str(TOOL), *map(str, arguments)])
    monkeypatch.syspath_prepend(TOOL.parent)  # as when it is run by python
    runpy.run_path(str(TOOL), run_name='__main__')


def test_the_tool(reference, tmp_path, monkeypatch, capsys):
    src, dst = tmp_path / 'src.pth', tmp_path / 'out' / 'dst.pth'
    torch.save(dict(state_dict=prefixed(reference.state_dict()) | {'bbox_head.x': torch.zeros(1)}), src)
    tool(monkeypatch, src, dst, '--backbone-only', '--strides', *STRIDES)
    printed = capsys.readouterr().out
    assert TEXT in printed and 'Left out 1 tensor ' in printed
    saved = torch.load(dst, weights_only=True)
    net = MAEDetNet(saved['meta']['arch'], init_cfg=dict(type='Pretrained', checkpoint=str(dst)))
    net.init_weights()
    assert torch.equal(net.stem.conv.weight, reference.block_list[0].conv1.weight)
    with pytest.raises(SystemExit, match='exists; use --overwrite'):
        tool(monkeypatch, src, dst)
    with pytest.raises(SystemExit, match='do not belong to the backbone'):
        tool(monkeypatch, src, dst, '--overwrite')


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


def test_pickles_with_code_are_refused_unless_trusted(reference, tmp_path, monkeypatch):
    src, trap = tmp_path / 'src.pth', tmp_path / 'trap'
    torch.save(dict(state_dict=reference.state_dict(), meta=Trap(trap)), src)
    with pytest.raises(SystemExit, match='--trust-pickle'):
        tool(monkeypatch, src, tmp_path / 'dst.pth', '--strides', *STRIDES)
    assert not trap.exists() and not (tmp_path / 'dst.pth').exists()
    tool(monkeypatch, src, tmp_path / 'dst.pth', '--strides', *STRIDES, '--trust-pickle')
    assert trap.exists() and (tmp_path / 'dst.pth').exists()
