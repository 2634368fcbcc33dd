"""Spaces of grey images and of four channels, and configs that are compared with them."""

import contextlib

import numpy as np
import pytest

from detnas_mm.engine.export import Exporter
from detnas_mm.errors import DetNASError
from detnas_mm.search import Constraint, Objective
from detnas_mm.search.job import ExportSettings
from detnas_mm.spaces.images import check_images
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import EntropyScore, ExactStrategy, MAEDetSpace, StructureMacs
from detnas_mm.systems.mae_det.structure import read_structure, to_dicts
from detnas_mm.systems.mae_det.structure_files import read_dicts, read_file, write_file
from tests.jobs import make_job, run_in_memory

TINY = dict(stem=4, channels=(8, 16), blocks=(1, 2))
KINDS = [pytest.param(DetNASSpace, 'small', id='detnas'), pytest.param(MAEDetSpace, 'authors', id='mae_det')]
GREY_INIT = '32k3s2|256k3s2x1b64|512k3s2x1b128|768k3s2x1b256|1024k3s1x1b256|2048k3s2x1b512'


@pytest.mark.parametrize(('kind', 'preset'), KINDS)
def test_they_are_part_of_the_spec(kind, preset):
    """With 3 channels the spec is as before, so older ledgers and tables can be read."""
    assert 'in_channels' not in kind(preset).spec() and kind(preset, 3).spec() == kind(preset).spec()
    grey = kind(preset, in_channels=1)
    assert grey.spec() == kind(preset).spec() | dict(in_channels=1) and grey.name == preset
    for again in (kind(grey), kind(grey.spec()), kind(grey.spec(), 1)):
        assert again.in_channels == 1 and again.spec() == grey.spec()
    with pytest.raises(ValueError, match='in_channels=4, but the space or structure has in_channels=1'):
        kind(grey.spec(), 4)


@pytest.mark.parametrize('value', [0, -1, 1.0, '1', True])
@pytest.mark.parametrize(('kind', 'preset'), KINDS)
def test_what_is_no_number_of_channels(kind, preset, value):
    for given in ((preset, value), (kind(preset).spec() | dict(in_channels=value),)):
        with pytest.raises(DetNASError, match='in_channels must be a whole number of at least 1; got'):
            kind(*given)


@pytest.mark.parametrize(('kind', 'preset'), KINDS)
def test_configs_of_nets_have_them(kind, preset):
    arch = kind(preset).sample(np.random.default_rng(0))
    cfg = dict(model=dict(type='A', backbone=dict(type='ResNet', in_channels=7)))
    for in_channels in (1, 4):
        assert kind(preset, in_channels).configure(cfg, arch)['model']['backbone']['in_channels'] == in_channels
    assert 'in_channels' not in kind(preset).configure(cfg, arch)['model']['backbone']
    custom = DetNASSpace(TINY, 1).configure({}, DetNASSpace(TINY).parse('0|00'))['model']['backbone']
    assert DetNASSpace(custom['space'], custom['in_channels']).spec() == DetNASSpace(TINY, 1).spec()


# -- structures -----------------------------------------------------------------------------------------------------


def test_structures_of_other_images(tmp_path):
    """The authors' form alone says the channels; whoever reads it is of those images or refuses it."""
    space = MAEDetSpace('authors', 1)
    arch = space.parse(GREY_INIT)
    dicts = to_dicts(arch, 1)
    assert dicts[0]['in'] == 1 and space.parse(dicts) == arch
    with pytest.raises(ValueError, match='The stem .block 0. has in=1; images have 3 channels'):
        read_structure(dicts)
    with pytest.raises(ValueError, match='has in=3; images have 1 channel[.]'):
        space.parse(to_dicts(arch))
    write_file(tmp_path / 'all.txt', [arch, dicts, to_dicts(arch, 4)])
    assert read_dicts(tmp_path / 'all.txt') == [to_dicts(arch), dicts, to_dicts(arch, 4)]
    assert read_file(tmp_path / 'all.txt') == [arch] * 3
    plain = EntropyScore((1, 1, 1, 1, 1))
    values = plain.scores([dicts, to_dicts(arch, 4), arch])
    reach = 5 * 0.5 * np.log([1 / 3, 4 / 3, 1])
    np.testing.assert_allclose(values - values[2], reach, rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match='has in=1; images have 4 channels'):
        EntropyScore(in_channels=4).score(dicts)


def test_published_structures_refuse_other_images():
    for name in ('maedet-s', 'maedet-m', 'maedet-l'):
        with pytest.raises(ValueError, match=f"'{name}' is a published net, .* 3 channels; got in_channels=1. Use its"):
            MAEDetSpace('relaxed', 1).parse(name)
        assert MAEDetSpace('relaxed', 3).parse(name)
    assert MAEDetSpace('authors', 1).parse('maedet-init'), 'a structure to begin with, no published net'


def test_scores_take_those_of_the_search():
    space = MAEDetSpace('authors', 1)
    score = EntropyScore((1, 1, 1, 1, 1))
    before = score.score(GREY_INIT)
    score.setup(make_job(space))
    assert score.spec()['in_channels'] == 1
    assert score.score(GREY_INIT) == pytest.approx(before - 2.5 * np.log(3), abs=1e-9)
    score.setup(make_job(MAEDetSpace('authors')))
    assert score.score(GREY_INIT) == before and 'in_channels' not in score.spec()
    with pytest.raises(ValueError, match='in_channels=4, but the space or structure has in_channels=1'):
        EntropyScore(in_channels=4).check(make_job(space))


# -- configs --------------------------------------------------------------------------------------------------------


def config(backbone=None, **preprocessor):
    return dict(model=dict(type='A', backbone=backbone or {}, data_preprocessor=preprocessor))


@pytest.mark.parametrize(
    ('cfg', 'in_channels', 'match'),
    [
        (config(dict(in_channels=1)), 3, 'search.space has in_channels=3, but model.backbone has in_channels=1'),
        (
            config(dict(space=dict(in_channels=1))),
            4,
            'search.space has in_channels=4, but model.backbone has in_channels=1',
        ),
        (config(mean=[1, 2, 3], std=[1]), 1, 'data_preprocessor.mean has 3 values, but search.space has in_channels=1'),
        (config(mean=[1], std=(1, 2, 3)), 4, 'data_preprocessor.std has 3 values, but search.space has in_channels=4'),
        (config(dict(in_channels=1), mean=[1, 2, 3]), None, 'mean has 3 values, but model.backbone has in_channels=1'),
        (
            config(dict(space=dict(in_channels=1)), mean=[1, 2, 3]),
            None,
            'mean has 3 .* model.backbone has in_channels=1',
        ),
        (
            config(bgr_to_rgb=True),
            4,
            'bgr_to_rgb swaps channels.* search.space has in_channels=4: set bgr_to_rgb=False',
        ),
        (dict(model=dict(backbone={}), data_preprocessor=dict(mean=[1, 2])), 3, 'mean has 2 values, but search.space'),
    ],
)
def test_parts_of_a_config_that_differ(cfg, in_channels, match):
    with pytest.raises(DetNASError, match=match):
        check_images(cfg, in_channels)


def test_a_training_config_of_other_images_is_refused_by_its_name():
    """The one that found nets are put into, before the search."""
    export = ExportSettings(config='mmdet::retinanet/retinanet_r50_fpn_1x_coco.py')
    job = make_job(MAEDetSpace('authors', 1), [Objective('entropy')], evaluator=EntropyScore(), export=export)
    job.exporter = Exporter(job)
    with pytest.raises(DetNASError, match='mean of mmdet::retinanet/.*has 3 values, but search.space has in_ch.*=1'):
        job.prepare()


@pytest.mark.parametrize(
    ('cfg', 'in_channels'),
    [
        ({}, 1),
        (config(mean=[1, 2, 3, 4]), None),
        (config(mean=[1], std=[1]), 4),
        (config(mean=[1, 2, 3], bgr_to_rgb=True), 3),
        (config(dict(in_channels=4), mean=[1, 2, 3, 4], to_rgb=True), 4),
        (config(dict(in_channels=1), mean=None), None),
    ],
)
def test_parts_that_agree(cfg, in_channels):
    check_images(cfg, in_channels)


@pytest.mark.parametrize('in_channels', [1, 4])
def test_a_proven_search_counts_them(in_channels):
    """The bound, which the formula by blocks gives, and the row, which the evaluator gives, are of the same images."""
    small = dict(strides=[2, 2], stem_widths=[8, 16], widths=[8, 32], growth=[1, 4], depths=[1, 3], bottlenecks=[8, 32])
    space, weights = MAEDetSpace(small, in_channels), (1, 1, 6)
    job = make_job(
        space, [Objective('entropy')], dict(macs=StructureMacs(space, 64)), [Constraint('macs', high=3e6)],
        strategy=ExactStrategy(EntropyScore(weights)), evaluator=EntropyScore(weights), generations=1,
    )  # fmt: skip
    (best,) = run_in_memory(job)
    assert best.metrics['entropy'] == EntropyScore(weights, in_channels=in_channels).score(best.arch)
    assert best.costs['macs'] == StructureMacs(space, 64).total(best.arch) <= 3e6
    with pytest.raises(ValueError, match='in_channels=2, but the space or structure has'):
        ExactStrategy(EntropyScore(weights, in_channels=2)).setup(job)


@pytest.mark.parametrize(
    ('settings', 'in_channels', 'match'),
    [
        ({}, 1, "train_dataloader: LoadImageFromFile with color_type='color' returns 3 .*=1: use .*'grayscale'"),
        (dict(color_type='grayscale'), 3, "color_type='grayscale' returns 1 .*in_channels=3: use color_type='color'"),
        ({}, 4, 'returns 3 channels, but model.backbone has in_channels=4: use color_type=.unchanged., or another'),
        (dict(color_type='grayscale'), 1, None),
        (dict(color_type='unchanged'), 4, None),
    ],
)
def test_pipelines_read_images_of_these_channels(settings, in_channels, match):
    pipeline = [dict(type='mmcv.LoadImageFromFile', **settings), dict(type='LoadAnnotations')]
    cfg = config(dict(in_channels=in_channels)) | dict(train_dataloader=dict(dataset=dict(pipeline=pipeline)))
    with contextlib.nullcontext() if match is None else pytest.raises(DetNASError, match=match):
        check_images(cfg)
