"""Costs of structures: equal to counting on the built net, whatever the structure and the size."""

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.systems.mae_det import (
    MAEDetSpace,
    StructureDepthToWidth,
    StructureFlops,
    StructureLayers,
    StructureMacs,
    StructureParams,
)
from detnas_mm.systems.mae_det.structure import to_text, unpack

ALL = [StructureFlops, StructureMacs, StructureParams, StructureLayers, StructureDepthToWidth]
SMALL = dict(stem_widths=[8, 16], widths=[8, 64], growth=[1, 4], depths=[1, 3])


def test_figures_of_the_reference():
    assert StructureParams().total('maedet-s') == 21_233_120
    assert StructureMacs().total('maedet-s') == 10_883_750_400
    assert StructureFlops().total('maedet-s') == 10_992_870_000
    assert StructureLayers().total('maedet-s') == 79
    assert StructureParams().total('maedet-init') == 9_639_584


@pytest.mark.parametrize('size', [(64, 64), (75, 53), (1, 1)])
@pytest.mark.parametrize('strides', [[2, 2, 1], [2, 1, 2], [1, 2, 2]])
def test_they_agree_with_counting_on_built_nets(strides, size):
    """FLOPs element by element, from what the layers of a real net put out."""
    torch = pytest.importorskip('torch')
    from detnas_mm.cost.count import count_macs, count_params
    from detnas_mm.systems.mae_det import MAEDetNet

    space = MAEDetSpace(dict(SMALL, strides=strides))
    for arch in space.sample_many(np.random.default_rng(0), 3):
        net = MAEDetNet(arch)
        assert StructureParams(space).total(arch) == count_params(net)
        macs = count_macs(net, size)
        assert StructureMacs(space, size).total(arch) == macs
        elements = 0

        def add(module, inputs, output):
            nonlocal elements
            if isinstance(module, torch.nn.BatchNorm2d):
                elements += 2 * output.numel()
            elif isinstance(module, torch.nn.AvgPool2d):
                elements += inputs[0].numel()
            else:
                elements += output.numel()

        kinds = (torch.nn.BatchNorm2d, torch.nn.ReLU, torch.nn.AvgPool2d)
        for name, module in net.named_modules():
            if isinstance(module, kinds) or name.endswith('shortcut'):
                module.register_forward_hook(add)
        net(torch.zeros(2, 3, *size))
        assert elements % 2 == 0  # two images: BN needs more than one value per channel
        assert StructureFlops(space, size).total(arch) == macs + elements // 2


def test_many_at_a_time_also_of_different_strides():
    first, second = MAEDetSpace(dict(SMALL, strides=[2, 2, 1])), MAEDetSpace(dict(SMALL, strides=[2, 1, 2]))
    codes = np.concatenate([space.sample_codes(np.random.default_rng(0), 20) for space in (first, second)])
    codes = codes[np.random.default_rng(0).permutation(40)]
    for cost in (kind() for kind in ALL):
        assert cost.totals(codes).tolist() == [cost.total(arch) for arch in first.decode(codes)]
        assert len(cost.totals(codes[:0])) == 0


@pytest.mark.parametrize('kind', ALL)
def test_bounds_hold_and_are_reached(kind):
    space = MAEDetSpace(dict(SMALL, strides=[2, 1], kernels=[3], depths=[1, 2]))
    codes = np.unique(space.sample_codes(np.random.default_rng(0), 100_000), axis=0)
    assert len(codes) == space.size
    values = kind(space).totals(codes)
    assert kind(space).bounds() == pytest.approx((values.min(), values.max()), rel=1e-12)


def test_depth_to_width():
    """Compares with the formula written out: the stem, and three convolutions per bottleneck."""
    arch = MAEDetSpace('relaxed').parse('maedet-s')
    stem, blocks = unpack(arch)
    inputs = [3 * stem.kernel**2]
    worst = [1 / inputs[0]]
    for block in blocks:
        for j in range(block.depth):
            inputs += [block.out if j else block.cin, block.bottleneck * block.kernel**2, block.bottleneck]
        worst.append(len(inputs) / np.exp(np.mean(np.log(inputs))))
    assert StructureDepthToWidth('relaxed').total(arch) == pytest.approx(max(worst), rel=1e-12)
    assert StructureDepthToWidth().total('maedet-s') == StructureDepthToWidth('relaxed').total(arch)


def test_text_stays_what_it_is():
    space = MAEDetSpace('relaxed')
    assert to_text(space.parse('maedet-s')) == '32k3s2|48k5s2x2b32|272k3s2x4b120|1024k5s2x10b80|2048k3s2x10b240'


@pytest.mark.parametrize('codes', [np.zeros((2, 9), int), np.zeros((2, 13)), np.zeros(13, int)])
def test_arrays_of_another_shape_are_refused(codes):
    with pytest.raises(ValueError, match=r'integer array of shape \(candidates, 3 \+ 5 blocks\)'):
        StructureMacs().totals(codes)


@pytest.mark.parametrize('kind', ALL)
def test_an_architecture_that_is_no_structure_is_refused(kind):
    for genes, match in (((32, 3, 2, -8, 3, 2, 1, 8), 'out=-8'), ((32, 3, 2, 8, 4, 2, 1, 8), 'kernels must be odd')):
        with pytest.raises(ValueError, match=match):
            kind().total(Architecture(genes))


def test_input_sizes_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match='positive integers'):
        StructureFlops(input_size=(480, 0))
