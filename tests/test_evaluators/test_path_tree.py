import weakref

import pytest
import torch
from torch import nn

from detnas_mm.evaluators.one_shot.path_tree import PathTree
from detnas_mm.systems.detnas import DetNASSupernet

SPACE = dict(stem=4, channels=(8, 16), blocks=(2, 1))
PATHS = ['00|0', '01|0', '00|3', '00|0', '31|2']


def make():
    torch.manual_seed(0)
    net = DetNASSupernet(SPACE, with_last_conv=True).eval()
    net.init_weights()
    tree = PathTree([net.segments(net.space.parse(path)) for path in PATHS])
    return net, tree


@torch.no_grad()
def test_each_candidate_gets_what_its_path_computes_and_shared_parts_run_once():
    net, tree = make()
    images = torch.randn(2, 3, 32, 32)
    runs = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, *_: runs.append(module))
    found = dict(tree.walk(images, lambda node: None))
    shared = len(runs)
    runs.clear()
    assert len(found) == 4 and tree.ends[0] is tree.ends[3]
    for path, end in zip(PATHS, tree.ends, strict=True):
        net.set_path(path)
        assert all(torch.equal(a, b) for a, b in zip(net(images), found[end], strict=True))
    # stem, blocks, last convolution of 5 paths one by one; the tree shares stem, first block, the whole of one path
    assert 0 < shared < len(runs)


@torch.no_grad()
@pytest.mark.parametrize('parts', [1, 2, 3, 7])
def test_parts_are_neighbours_and_make_up_the_whole(parts):
    _, tree = make()
    images = torch.randn(2, 3, 32, 32)
    whole = dict(tree.walk(images, lambda node: None))
    found = [dict(tree.walk(images, lambda node: None, part, parts)) for part in range(parts)]
    assert [end for part in found for end in part] == list(whole)
    assert max(map(len, found)) - min(map(len, found)) <= 1
    for part in found:
        for end, outputs in part.items():
            assert all(torch.equal(a, b) for a, b in zip(outputs, whole[end], strict=True))


def test_a_part_is_a_handful():
    net, tree = make()
    assert tree.parts == 1
    paths = [f'{a}{b}|{c}' for a in range(4) for b in range(4) for c in range(4)]
    assert PathTree([net.segments(net.space.parse(path)) for path in paths]).parts == 11


@torch.no_grad()
def test_nothing_behind_a_failure_runs():
    _, tree = make()
    tree.branches[0][2].failure = 'broken'  # the second block of 00|…
    entered = []
    found = dict(tree.walk(torch.randn(1, 3, 32, 32), entered.append))
    assert list(found) == [tree.ends[1], tree.ends[4]]
    assert [tree.failure(i) for i in range(5)] == ['broken', None, 'broken', 'broken', None]
    assert not {id(n) for n in tree.branches[0][2:]} & {id(n) for n in entered}


def most_alive(net, paths):
    """The largest number of outputs of segments that are in memory at a time."""
    alive, most = 0, 0

    def count(change):
        nonlocal alive, most
        alive += change
        most = max(most, alive)

    def hook(module, inputs, output):
        count(1)
        weakref.finalize(output, count, -1)

    tree = PathTree([net.segments(net.space.parse(path)) for path in paths])
    for module in {node.segment.module for node in tree.nodes if node.segment}:
        module.register_forward_hook(hook)
    for outputs in tree.walk(torch.randn(1, 3, 32, 32), lambda node: None):
        del outputs  # or the last candidate's would wait for the next one's
    return most


@torch.no_grad()
def test_memory_grows_with_depth_not_with_candidates():
    paths = [f'{a}{b}|{c}' for a in range(4) for b in range(4) for c in range(4)]
    assert most_alive(DetNASSupernet(SPACE).eval(), paths) == 4  # stem and three blocks


@torch.no_grad()
def test_a_single_candidate_takes_what_an_ordinary_forward_takes():
    assert most_alive(DetNASSupernet(SPACE, out_indices=(1,)).eval(), PATHS[:1]) == 2  # a block's input and output
