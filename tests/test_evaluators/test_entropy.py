"""Entropy by three methods: closed form, closed form with borders, and forward passes of noise."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import DeepMADScore, EntropyScore, MAEDetNet, MAEDetSpace
from detnas_mm.systems.mae_det.entropy import WEIGHTS, EntropySum
from detnas_mm.systems.mae_det.entropy_forward import forward_entropy
from detnas_mm.systems.mae_det.structure import read_structure, to_dicts, unpack
from detnas_mm.testing import check_evaluator
from tests.jobs import make_job

AUTHORS = MAEDetSpace('authors')
SLIM = MAEDetSpace(dict(stem_widths=[16, 32], widths=[16, 128], growth=[1, 4], depths=[1, 4], strides=[2, 2, 2, 2]))


def test_figures_of_the_reference():
    """The authors' code gives the first value, except for its last digit."""
    assert EntropyScore().score('maedet-s') == pytest.approx(1731.907009966715, rel=1e-15)
    assert EntropyScore().score('maedet-init') == pytest.approx(400.7261, abs=5e-5)


def test_written_out():
    """Compares with the sum written out by convolution and stage."""
    arch = read_structure('16k5s2|24k3s2x2b16|40k5s1x1b8|64k3s2x3b24')
    stem, blocks = unpack(arch)
    sums, stage_ends = 0.5 * math.log(3 * 25), {0: 0.5 * math.log(3 * 25) + math.log(16)}
    for block, stage in zip(blocks, (None, 1, 2), strict=True):
        for j in range(block.depth):
            cin = block.out if j else block.cin
            for inputs in (cin, block.bottleneck * block.kernel**2, block.bottleneck):
                sums += 0.5 * math.log(inputs)
        stage_ends[stage] = sums + math.log(block.out)
    for weights in ((0, 1, 0), (2, 3, 5), (1, 0, 0)):
        expected = sum(w * stage_ends[i] for i, w in enumerate(weights))
        assert EntropyScore(weights).score(arch) == pytest.approx(expected, rel=1e-14)
        assert EntropyScore(np.array(weights)).spec() == EntropyScore(weights).spec()


def test_a_sum_over_blocks_is_the_same():
    codes = AUTHORS.sample_codes(np.random.default_rng(0), 500)
    for weights in (WEIGHTS, (1, 2, 3, 4, 5)):
        found = EntropyScore(weights).block_sum((2, 2, 2, 2, 1, 2)).totals(codes)
        np.testing.assert_allclose(found, EntropyScore(weights).score_codes(codes), rtol=1e-13)
    with pytest.raises(ValueError, match='is no sum over blocks'):
        EntropyScore(input_size=64).block_sum((2, 2))
    with pytest.raises(ValueError, match='has 2 entries'):
        EntropySum((1, 1), (2, 2, 2))


def border_entropy(arch, weights, size):
    """With borders, by real convolutions of two-dimensional variance maps, one convolution at a time."""
    stem, blocks = unpack(arch)
    convs = [(0, 3, stem.kernel, stem.stride)]
    stage = 0
    channels = {0: stem.out}
    for block in blocks:
        stage += block.stride == 2
        for j in range(block.depth):
            convs += [(stage, block.out if j else block.cin, 1, 1), (stage, block.bottleneck, block.kernel,
                      1 if j else block.stride), (stage, block.bottleneck, 1, 1)]  # fmt: skip
        channels[stage] = block.out
    maps = torch.ones(1, 1, *size, dtype=torch.float64)
    sums = dict.fromkeys(channels, 0.0)
    for stage, cin, kernel, stride in convs:
        ones = torch.ones(1, 1, kernel, kernel, dtype=torch.float64)
        maps = cin * torch.nn.functional.conv2d(maps, ones, stride=stride, padding=kernel // 2)
        for later in sums:
            sums[later] += 0.5 * math.log(maps.mean()) if later >= stage else 0
        maps = maps / maps.mean()
    return sum(w * (sums[i] + math.log(channels[i])) for i, w in enumerate(weights))


@pytest.mark.parametrize('size', [(64, 64), (75, 41)])
def test_borders_as_real_convolutions_have_them(size):
    archs = [*SLIM.sample_many(np.random.default_rng(0), 6), read_structure('maedet-s')]
    found = EntropyScore(input_size=size).scores(archs)
    np.testing.assert_allclose(found, [border_entropy(arch, WEIGHTS, size) for arch in archs], rtol=1e-12)


def test_borders_matter_less_the_larger_the_image():
    plain = EntropyScore().score('maedet-s')
    gaps = [plain - EntropyScore(input_size=size).score('maedet-s') for size in (64, 256, 1024)]
    assert gaps[0] > gaps[1] > gaps[2] > 0 and gaps[2] < 0.001 * plain


def test_all_three_order_nets_alike():
    archs = SLIM.sample_many(np.random.default_rng(0), 40)
    plain, borders = EntropyScore().scores(archs), EntropyScore(input_size=64).scores(archs)
    forward = [forward_entropy(MAEDetNet(arch), WEIGHTS[1:], 64, repeats=2) for arch in archs]
    np.testing.assert_allclose(forward, borders, rtol=0.02)
    assert spearmanr(borders, forward).statistic > 0.99 and spearmanr(plain, forward).statistic > 0.98


def test_many_agree_with_borders_and_without_at_the_authors_size():
    codes = AUTHORS.sample_codes(np.random.default_rng(0), 300)
    found = spearmanr(EntropyScore().score_codes(codes), EntropyScore(input_size=480).score_codes(codes)).statistic
    assert found > 0.9999


def test_every_form_of_a_structure_and_of_a_batch():
    score = EntropyScore()
    arch = AUTHORS.parse('maedet-init')
    one = score.score('maedet-init')
    assert one == score.score(arch) == score.score(to_dicts(arch)) == score.score(AUTHORS.describe(arch))
    mixed = score.scores(['maedet-s', arch, 'maedet-m'])  # of different depths
    assert mixed.tolist() == [score.score('maedet-s'), one, score.score('maedet-m')]
    assert score.scores([]).shape == (0,)
    for one in ('maedet-s', read_structure('maedet-s')):
        with pytest.raises(ValueError, match=r'is one structure: use score\(\)'):
            EntropyScore().scores(one)
    with pytest.raises(ValueError, match=r'6 blocks of one structure: use score\(\)'):
        score.scores(to_dicts(arch))


@pytest.mark.parametrize(
    ('genes', 'match'),
    [
        ((32, 3, 2, 0, 3, 2, 1, 8), 'Block 1 of .* has out=0'),
        ((32, 3, 2, 8, 4, 2, 1, 8), 'Block 1 of .* has kernel=4; kernels must be odd'),
        ((32, 3, 2, 8, 3, 2, 1, -8), 'Block 1 of .* has bottleneck=-8'),
        ((1, 2, 0, 3), 'has 4 genes'),
    ],
)
def test_an_architecture_that_is_no_structure_is_refused(genes, match):
    for score in (EntropyScore((1, 1)), EntropyScore((1, 1), 64), DeepMADScore((1, 1))):
        with pytest.raises(ValueError, match=match):
            score.score(Architecture(genes))


@pytest.mark.parametrize('evaluator', [EntropyScore(), EntropyScore(input_size=96), DeepMADScore()])
def test_conformance(evaluator):
    check_evaluator(evaluator, AUTHORS, AUTHORS.sample_many(np.random.default_rng(0), 5))
    assert not evaluator.needs_model


@pytest.mark.parametrize(
    ('weights', 'match'),
    [((1, 1), 'has 2 entries; .* have 5 stages'), ((0, 0, 1, 1, 6, 1), 'has 6 entries; .* have 5 stages')],
)
def test_a_wrong_number_of_weights_is_an_error_before_the_search(weights, match):
    for score in (EntropyScore(weights), DeepMADScore(weights), EntropyScore(weights, input_size=64)):
        with pytest.raises(ValueError, match=match):
            score.setup(make_job(AUTHORS))
        with pytest.raises(ValueError, match=match):
            score.score('maedet-s')


@pytest.mark.parametrize('weights', [(), (0, 0), (1, -1), (1, math.nan), ('1',), '11', 3, (1, True)])
def test_weights_that_make_no_sense_are_refused(weights):
    with pytest.raises(ValueError, match='weights must be numbers of at least 0'):
        EntropyScore(weights)


def test_spaces_of_something_else_are_refused():
    with pytest.raises(ValueError, match='EntropyScore cannot score'):
        EntropyScore().setup(make_job(DetNASSpace('small')))


# -- DeepMAD ------------------------------------------------------------------------------------------------------


def test_deepmad_written_out():
    arch = read_structure('16k3s2|24k3s2x2b16|64k5s2x3b24')
    alpha, beta, sums = 0.5, 2.0, 0.0
    stem, blocks = unpack(arch)

    def entropy(cin, kernel):
        return 0.5 * (alpha * math.log(cin) + 2 * beta * math.log(kernel))

    sums = entropy(3, 3)
    expected = 1 * (math.log(16) + 2 * math.log(32)) * sums
    for weight, size, block in zip((2, 8), (16, 8), blocks, strict=True):
        for j in range(block.depth):
            sums += entropy(block.out if j else block.cin, 1) + entropy(block.bottleneck, block.kernel)
            sums += entropy(block.bottleneck, 1)
        expected += weight * (math.log(block.out) + 2 * math.log(size)) * sums
    expected -= 10 * math.exp(0.5)  # depths 2 and 3
    score = DeepMADScore((1, 2, 8), 64, alpha, beta)
    assert score.score(arch) == pytest.approx(expected, rel=1e-13)


def test_deepmad_with_unit_exponents_sums_the_same_entropy():
    """The entropy of the last stage alone, out of both scores."""
    arch, last = read_structure('maedet-s'), (0, 0, 0, 0, 1)
    plain = EntropyScore(last).score(arch) - math.log(2048)
    deep = DeepMADScore(last, 224, depth_penalty=0.0).score(arch) / (math.log(2048) + 2 * math.log(7))
    assert deep == pytest.approx(plain, rel=1e-13)
    with pytest.raises(ValueError, match='at least 0'):
        DeepMADScore(depth_penalty=-1.0)


# -- the forward form on any backbone -----------------------------------------------------------------------------


def test_forward_form_of_mmdets_resnet():
    """Its bottlenecks, counted by hand: shortcuts are left out, the max-pool stays."""
    from mmdet.models import ResNet

    net = ResNet(50, out_indices=(0, 1, 2, 3))
    weights = {name: value.clone() for name, value in net.state_dict().items()}
    state = torch.random.get_rng_state()
    found = forward_entropy(net, (0, 0, 0, 1), 64, repeats=2)
    assert torch.equal(torch.random.get_rng_state(), state) and net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    sums, cin = 0.5 * math.log(3 * 49), 64
    for depth, inner in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True):
        for _ in range(depth):
            sums += 0.5 * (math.log(cin) + math.log(inner * 9) + math.log(inner))
            cin = 4 * inner
    assert found == pytest.approx(sums + math.log(2048), rel=0.03)  # borders, and the pool


def test_forward_form_takes_what_is_deeper_and_refuses_what_it_cannot():
    net = MAEDetNet('16k3s2|24k3s2x2b16|64k5s2x3b24', out_indices=(1,))
    assert forward_entropy(net, [1.0], (64, 48)) == forward_entropy(net, [1.0], (64, 48))
    assert forward_entropy(net, [1.0], 64) != forward_entropy(net, [1.0], 64, seed=1)
    with pytest.raises(ValueError, match='has 2 entries; .* returns 1 feature maps'):
        forward_entropy(net, [1.0, 1.0], 64)
    with pytest.raises(ValueError, match='at least 1'):
        forward_entropy(net, [1.0], 64, repeats=0)
    with pytest.raises(ValueError, match='depends on no torch.nn.Conv2d'):
        forward_entropy(torch.nn.Identity(), [1.0], 64)
    for size in ('64', 64.5, (64,), None, 0):
        with pytest.raises(ValueError, match='input_size must be'):
            forward_entropy(net, [1.0], size)
    with pytest.raises(ValueError, match='single number for input_size 4x4, .* larger input_size'):
        forward_entropy(MAEDetNet('1k3s2|1k3s2x1b1'), [1.0], 4)


class Scaled(torch.nn.Module):
    """A block as ConvNeXt and PoolFormer have it: a linear layer and a small learned scale on the way."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 16, 3, padding=1)
        self.conv = torch.nn.Conv2d(16, 16, 3, padding=1)
        self.linear = torch.nn.Linear(16, 16)
        self.scale = torch.nn.Parameter(torch.full((16,), 1e-6))
        self.shift = torch.nn.Parameter(torch.ones(1, 16, 1, 1))
        self.head = torch.nn.Conv2d(16, 8, 1)

    def forward(self, x):
        x = self.stem(x) + self.shift
        out = self.linear(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.head(x + self.scale.view(1, -1, 1, 1) * out)


def test_forward_form_uses_none_of_the_nets_own_weights():
    """The score depends only on the convolutions, for any scales; ConvNeXt of mmpretrain once got -209."""
    net = Scaled()
    found = forward_entropy(net, [1.0], 64)
    assert found == pytest.approx(0.5 * math.log(27 * 144 * 16) + math.log(8), rel=0.02)
    for parameter in net.parameters():
        parameter.data.mul_(-30).add_(1)
    assert forward_entropy(net, [1.0], 64) == found
