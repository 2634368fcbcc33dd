"""A whole search on grey images: the supernet trains, is searched, and what it exports tests as it was scored."""

import json

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from detnas_mm.config_types import nodes
from detnas_mm.engine import found
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.launch import search
from tests import digits

pytestmark = pytest.mark.slow
SEARCH = dict(
    search__strategy=dict(population=2, parents=1, mutation=1, crossover=1),
    search__budget__generations=1,
    search__evaluator__calibration__num_images=20,
    search__export=dict(top_k=1, config=None),
    search__space__in_channels=1,
)


def grey(name, work_dir, **changes):
    """A Digits config whose images have one channel."""
    cfg = digits.written(
        name, work_dir, model__backbone__in_channels=1, model__test_cfg=dict(score_thr=0.001, nms_pre=50),
        model__data_preprocessor__mean=[110.0], model__data_preprocessor__std=[60.0], **changes,
    )  # fmt: skip
    for node in nodes(cfg._cfg_dict):
        if node.get('type') == 'LoadImageFromFile':
            node['color_type'] = 'grayscale'
    return cfg


@pytest.fixture(scope='module')
def supernet(digits_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp('grey')
    cfg = grey('detnas-digits_supernet_retinanet', folder, train_cfg__max_iters=10, train_dataloader__batch_size=8)
    Runner.from_cfg(fit_to_machine(cfg)).train()
    return str(folder / 'iter_10.pth')


def test_a_search_on_grey_images(supernet, tmp_path):
    cfg = grey('detnas-digits_search_retinanet', tmp_path, **SEARCH)
    job = search(cfg, supernet, at_end=None)
    header = json.loads((tmp_path / 'ledger.jsonl').read_text().splitlines()[0])
    assert header['space']['in_channels'] == 1
    (best,) = json.loads((tmp_path / 'best.json').read_text())
    macs = best['costs']['macs']
    assert macs == job.budget.models['macs'].total(job.space.parse(best['arch']))
    assert Config.fromfile(tmp_path / best['config']).model.backbone.in_channels == 1
    weights = torch.load(tmp_path / best['checkpoint'], weights_only=True)['state_dict']
    assert weights['backbone.stem.conv.weight'].shape == (16, 1, 3, 3)
    metrics = found.tested(tmp_path / best['search_val'], tmp_path / best['checkpoint'], tmp_path / 'test')
    assert metrics['coco/bbox_mAP'] == pytest.approx(best['metrics']['coco/bbox_mAP'], abs=6e-4)


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        (dict(search__space__in_channels=3), 'search.space has in_channels=3, but model.backbone has in_channels=1'),
        (dict(model__data_preprocessor__mean=[1.0, 2.0, 3.0]), 'data_preprocessor.mean has 3 values, but search.space'),
    ],
)
def test_what_does_not_fit_ends_before_the_search(supernet, tmp_path, changes, match):
    cfg = grey('detnas-digits_search_retinanet', tmp_path, **SEARCH)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in changes.items()})
    with pytest.raises(SystemExit, match=f'error: {match}'):
        search(cfg, supernet, at_end=None)
    assert not (tmp_path / 'ledger.jsonl').exists()
