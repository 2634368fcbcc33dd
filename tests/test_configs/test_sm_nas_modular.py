"""The second stage's configs: seeded by what the first stage's leaves, their candidates train and are judged."""

import json
import math

import pytest
from mmengine.config import Config

from detnas_mm.registry import SPACES, STRATEGIES, build_from

from . import one_step
from .leaves import LEAVES, SMNAS_MODULAR

#: Some detectors of the first stage's front, by the second stage's config.
FRONTS = {
    'smnas_search-modular_coco': [
        '512x512/resnet18/fpn-p2-p5-128/rpn/faster',
        '512x512/resnet50/fpn-p1-p5-256/ga-rpn/cascade3',
        '512x512/mobilenetv2/fpn-p2-p5-128/none/retinanet',
    ],
    'smnas-digits_modular': [
        '64x64/resnet18-8/fpn-p1-p3-24/none/retinanet',
        '96x96/resnet34-16/fpn-p2-p4-48/rpn/faster',
        '128x128/resnet18-24/fpn-p1-p4-24/rpn/cascade2',
    ],
}
SEEDS = {
    'smnas_search-modular_coco': [
        'seed1:basic_64_11-21-21-21_128',
        'seed2:bottleneck_64_111-2111-211111-211_256',
    ],
    'smnas-digits_modular': [
        'seed1:basic_8_11-21-21_24',
        'seed2:basic_16_111-2111-211111-211_48',
        'seed3:basic_24_11-21-21-21_24',
    ],
}


def seeded(cfg, name, folder):
    """The config with its space; the search of the first stage has exported some detectors."""
    before = Config.fromfile(LEAVES[name.replace('modular', 'structural')]).to_dict()
    stage = build_from(SPACES, before.pop('search')['space'])
    entries = []
    for number, text in enumerate(FRONTS[name]):
        arch = stage.parse(text)
        file = folder / f'rank{number}_{arch.id}.py'
        file.write_text(Config(stage.configure(before, arch), format_python_code=False).pretty_text)
        entries.append(dict(id=arch.id, arch=text, config=file.name))
    (folder / 'best.json').write_text(json.dumps(entries))
    cfg.search.space.seeds.file = str(folder / 'best.json')
    return cfg, build_from(SPACES, cfg.search.space)


@pytest.mark.parametrize('name', SMNAS_MODULAR)
@pytest.mark.filterwarnings('ignore:search.space.seeds. left out')
def test_a_modular_search_goes_on_from_the_structural_one(name, load, tmp_path):
    cfg = load(name)
    first = f'work_dirs/{name.replace("modular", "structural")}'
    assert cfg.search.space.seeds.file == f'{first}/best.json'
    assert cfg.search.costs.latency.file == f'{first}/latency.json'
    cfg, space = seeded(cfg, name, tmp_path)
    assert [space.describe(point) for point in space.starting_points] == SEEDS[name]
    assert len(space.left_out) == len(FRONTS[name]) - len(SEEDS[name])
    strategy = build_from(STRATEGIES, cfg.search.strategy)
    assert strategy.pruning and strategy.random == 0.2
    assert strategy.population * cfg.search.budget.generations == (12 if 'digits' in name else 300)
    space.check(cfg.to_dict())


@pytest.mark.parametrize('name', SMNAS_MODULAR)
def test_its_candidates_are_trained_and_judged_as_those_of_the_first_stage(name, load):
    """Both stages must train alike to have a common front; their configs differ only in recipe and search."""
    own, first = (load(one).to_dict() for one in (name, name.replace('modular', 'structural')))
    searches = [cfg.pop('search') for cfg in (own, first)]
    assert own == first
    assert searches[0]['evaluator'] == searches[1]['evaluator']
    assert searches[0]['objectives'] == searches[1]['objectives']


@pytest.mark.slow
@pytest.mark.usefixtures('data', 'quick')
@pytest.mark.filterwarnings('ignore:search.space.seeds. left out')
@pytest.mark.parametrize('name, number', [('smnas_search-modular_coco', 0), ('smnas-digits_modular', 2)])
def test_candidates_train_and_are_judged(name, number, tmp_path):
    """A seed of each config; the other ones are built above."""
    cfg, space = seeded(Config.fromfile(LEAVES[name]), name, tmp_path)
    cfg.pop('search')
    cfg = Config(space.configure(cfg.to_dict(), space.starting_points[number]))
    cfg = one_step.cut_down(cfg, tmp_path)
    cfg.train_cfg.val_interval = 1
    runner = one_step.train(cfg)
    assert runner.iter == 1 and type(runner.model.backbone).__name__ == 'SMNASBackbone'
    assert math.isfinite(runner.message_hub.get_scalar('train/loss').current())
    assert 'val/time' in runner.message_hub.log_scalars
