"""The configs of SM-NAS run: a step each, and a test, on images in the layout that they say."""

import math

import pytest
from mmengine.config import Config

from detnas_mm.registry import SPACES, build_from

from . import one_step
from .leaves import LEAVES, SMNAS, SMNAS_STRUCTURAL

NETS = [name for name in SMNAS if '_search' not in name]


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name', NETS)
def test_trains_and_is_tested(name, tmp_path):
    """With 8 base channels; tests/test_sm_nas/test_zoo.py counts the parameters of the whole net."""
    cfg = one_step.cut_down(Config.fromfile(LEAVES[name]), tmp_path)
    backbone, neck = cfg.model.backbone, cfg.model.neck
    neck.in_channels = [channels * 8 // backbone.base for channels in neck.in_channels]
    backbone.base, backbone.norm_cfg.num_groups = 8, 4
    runner = one_step.train(cfg)
    assert runner.iter == 1
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())
    assert 'val/time' in runner.message_hub.log_scalars


# -- stage 1: candidates of the structural searches -----------------------------------------------------------------


def space_of(cfg):
    return build_from(SPACES, cfg.search.space)


def candidate(cfg, text):
    """The config of a candidate, without the search."""
    space = space_of(cfg)
    out = space.configure({key: value for key, value in cfg.to_dict().items() if key != 'search'}, space.parse(text))
    return Config(out)


@pytest.mark.parametrize('name', SMNAS_STRUCTURAL)
def test_a_structural_search_is_the_papers(name, load):
    """Its space, objectives and budget; trained, searched and tested on images that are none of the others'."""
    cfg = load(name)
    space, section = space_of(cfg), cfg.search
    assert [one.direction for one in section.objectives] == ['maximize', 'minimize']
    assert section.objectives[1].name == 'latency' and section.costs.latency.file.startswith(f'work_dirs/{name}/')
    candidates = section.strategy.population * section.budget.generations
    digits = 'digits' in name
    assert candidates == (14 if digits else 500) and (space.recipe is not None) == digits
    assert space.num_classes == (10 if digits else 80 if name.endswith('coco') else 20)
    assert space.size == (324 if name == 'smnas-digits_structural' else 162 if digits else 4576)
    read = [repr(cfg[f'{part}_dataloader'].dataset) for part in ('train', 'val', 'test')]
    assert 'search_val' in read[1] and 'search_val' not in read[0] + read[2]
    if 'ann_file' in cfg.val_evaluator:
        assert cfg.val_evaluator.ann_file.endswith(cfg.val_dataloader.dataset.ann_file)
        assert cfg.test_evaluator.ann_file.endswith(cfg.test_dataloader.dataset.ann_file)
    if not digits:
        assert ('instances_val2017' if 'coco' in name else 'VOC2007/ImageSets/Main/test') in read[2]
        epoch = 7330 if 'coco' in name else 1035
        assert cfg.train_dataloader.batch_size == cfg.auto_scale_lr.base_batch_size == 16
        assert cfg.train_cfg.max_iters == 12 * epoch
        optimizer = dict(type='SGD', lr=0.02, momentum=0.9, nesterov=True, weight_decay=1e-4)
        assert cfg.optim_wrapper.optimizer == optimizer and cfg.optim_wrapper.paramwise_cfg.norm_decay_mult == 0
        assert cfg.param_scheduler[0].start_factor == 0.33 and cfg.param_scheduler[0].end == 500
        assert cfg.param_scheduler[1].milestones == [8 * epoch, 11 * epoch]


@pytest.mark.parametrize('name', SMNAS_STRUCTURAL)
def test_the_input_size_reaches_all_pipelines(name, load):
    cfg = load(name)
    space = space_of(cfg)
    size = list(space.table['size'])[-1]
    text = space.describe(next(arch for arch in space.members if arch.genes[0] == size))
    out = candidate(cfg, text)
    scale = tuple(map(int, size.split('x')))
    for part in ('train', 'val', 'test'):
        dataset = out[f'{part}_dataloader'].dataset
        for one in dataset.get('datasets', [dataset]):
            assert [tuple(step.scale) for step in one.pipeline if step.type == 'Resize'] == [scale]
    assert out.model.data_preprocessor == cfg.model.data_preprocessor


#: What is trained of each config. Every class of combinations takes a step in tests/test_sm_nas/.
CANDIDATES = {
    'smnas_search-structural_coco': [
        '512x512/resnet18/fpn-p2-p5-128/none/retinanet',
        '512x512/mobilenetv2/fpn-p2-p4-128/ga-rpn/cascade2',
    ],
    'smnas_search-structural_voc': ['512x512/resnet18/fpn-p2-p5-128/rpn/faster'],
    'smnas-digits_structural': ['128x128/resnet18-16/fpn-p1-p4-48/rpn/cascade2'],
    'smnas-digits_structural-found': ['64x64/nats/fpn-p1-p4-24/rpn/faster'],
}


@pytest.mark.parametrize('name', [name for name in SMNAS_STRUCTURAL if 'digits' in name])
def test_every_value_of_digits_builds(name, load):
    cfg = load(name).to_dict()
    build_from(SPACES, cfg.pop('search')['space']).check(cfg)


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.parametrize('name, text', [(name, text) for name in SMNAS_STRUCTURAL for text in CANDIDATES[name]])
def test_candidates_train_and_are_judged(name, text, tmp_path):
    cfg = one_step.cut_down(candidate(Config.fromfile(LEAVES[name]), text), tmp_path)
    cfg.train_cfg.val_interval = 1
    runner = one_step.train(cfg)
    assert runner.iter == 1
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())
    assert 'val/time' in runner.message_hub.log_scalars
