"""The supernet: only the active path runs and is trained."""

import pytest
import torch
from mmengine.model import BaseModule
from torch import nn

from detnas_mm.cost.count import count_params
from detnas_mm.errors import DetNASError
from detnas_mm.models import Supernet, find_supernet
from detnas_mm.systems.detnas import DetNASNet, DetNASSupernet


def test_forward_without_a_path_says_how_to_set_one(tiny, images):
    net = DetNASSupernet(tiny)
    assert net.active_path is None
    with pytest.raises(DetNASError, match=r"no active path.*set_path\('\d\d\|\d\d'\).*PathSamplingHook"):
        net(images)
    net.set_path('00|11')
    net(images)
    net.set_path(None)
    with pytest.raises(DetNASError, match='no active path'):
        net(images)


@pytest.mark.parametrize('path', ['00|1', '00|14', [0, 0, 1], 'abc'])
def test_paths_are_checked(tiny, path):
    net = DetNASSupernet(tiny)
    net.set_path('01|23')
    with pytest.raises(ValueError, match='this space has|allowed are|Cannot read'):
        net.set_path(path)
    assert net.active_path == net.space.parse('01|23')


def test_outputs_have_the_strides_of_the_stages(tiny, images):
    net = DetNASSupernet(dict(tiny, channels=(8, 16, 20), blocks=(1, 2, 1)), out_indices=(0, 2))
    net.set_path('0|12|3')
    assert [tuple(out.shape) for out in net(images)] == [(2, 8, 9, 12), (2, 20, 3, 3)]


def test_only_the_path_moves(tiny, images, randomise):
    net = randomise(DetNASSupernet(tiny)).train()
    path = net.space.parse('03|21')
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.set_path(path)
    sum(out.sum() for out in net(images)).backward()
    on_path = ('stem.', *(f'blocks.{i}.{c}.' for i, c in enumerate(path.genes)))
    for name, parameter in net.named_parameters():
        assert (parameter.grad is not None) == name.startswith(on_path), name
    moved = {k for k, v in net.state_dict().items() if not torch.equal(v, before[k])}
    expected = {k for k, _ in net.named_buffers() if k.startswith(on_path)}
    assert moved == expected and len(moved) > 20


def test_checkpointing_changes_nothing_of_a_whole_net(tiny, images, randomise):
    nets = [randomise(DetNASSupernet(tiny, with_cp=cp)).train() for cp in (False, True)]
    for net in nets:
        for path in ('01|23', '31|20', '01|23'):
            net.set_path(path)
            sum(out.square().mean() for out in net(images)).backward()
    for (name, a), b in zip(nets[0].named_parameters(), nets[1].parameters(), strict=True):
        assert (a.grad is None) == (b.grad is None) and (a.grad is None or torch.equal(a.grad, b.grad)), name
    for (name, a), b in zip(nets[0].named_buffers(), nets[1].named_buffers(), strict=True):
        assert torch.equal(a, b[1]), name


def test_segments_are_what_runs_in_order(tiny, images):
    net = DetNASSupernet(tiny)
    path = net.space.parse('20|13')
    ran = []
    for module in [net.stem, *(unit for choices in net.blocks for unit in choices)]:
        module.register_forward_hook(lambda module, *_: ran.append(module))
    net.set_path(path)
    net(images)
    segments = net.segments(path)
    assert ran == [segment.module for segment in segments] and len(ran) == 5
    assert [segment.key for segment in segments] == ['stem', 2, 0, 1, 3]
    assert [segment.keep for segment in segments] == [False, False, True, False, True]


def test_parameters_of_the_small_supernet_are_the_references():
    with torch.device('meta'):
        assert count_params(DetNASSupernet('small')) == 6_808_256


def test_find_supernet(tiny):
    model = nn.ModuleDict(dict(backbone=DetNASSupernet(tiny), neck=nn.Conv2d(1, 1, 1)))
    assert find_supernet(model) is model['backbone']
    assert find_supernet(nn.DataParallel(model)) is model['backbone']
    assert find_supernet(model['backbone']) is model['backbone']
    with pytest.raises(ValueError, match='^0 supernets found in DetNASNet'):
        find_supernet(DetNASNet('00|00', space=tiny))
    model['second'] = DetNASSupernet(tiny)
    with pytest.raises(ValueError, match='^2 supernets found in ModuleDict'):
        find_supernet(model)


def test_it_is_a_plain_backbone():
    assert issubclass(DetNASSupernet, (Supernet, BaseModule)) and issubclass(DetNASNet, BaseModule)
