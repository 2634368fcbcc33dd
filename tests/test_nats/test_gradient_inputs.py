"""Errors of a search by gradient before it trains: each names the key of the config."""

import copy
import json

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS

from detnas_mm.cost import AdditiveTable
from detnas_mm.engine import launch
from detnas_mm.engine.runner import NamedRunner
from detnas_mm.errors import DetNASError
from detnas_mm.registry import COSTS
from tests import digits
from tests.test_nats.gradient import Noise, Tiny, config, loader

LIST = [dict(type='ExponentialLR', gamma=0.5)]
PLAIN_WRAPPER = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))


@MODELS.register_module(force=True)
class TwoTiny(Tiny):
    """A model with two supernets."""

    def __init__(self, backbone, **kwargs):
        super().__init__(backbone, **kwargs)
        self.other = MODELS.build(backbone)


@COSTS.register_module(force=True)
class OnesCost(AdditiveTable):
    """A cost of 1 for every group."""

    def __init__(self, space):
        super().__init__('ones', 'groups', np.ones((len(space.choices), max(space.choices))), 0)


def changed(cfg, key, value):
    """Sets a key, or takes it out."""
    *path, last = key.split('.')
    node = cfg
    for name in path:
        node = node[int(name) if name.isdigit() else name]
    if value is None:
        node.pop(last)
    else:
        node[last] = value


REFUSED = [
    ({'train_cfg.alpha_dataloader': None}, 'train_cfg.alpha_dataloader is missing'),
    ({'train_dataloader.sampler': dict(type='InfiniteSampler')}, 'an InfiniteSampler, with which .* never ends'),
    (
        {'train_dataloader.sampler': dict(type='InfiniteSampler'),
         'train_dataloader.batch_sampler': dict(type='mmdet.AspectRatioBatchSampler')},
        'an InfiniteSampler, with which .* never ends',
    ),
    (
        {'train_cfg.alpha_dataloader.dataset': dict(type='Noise', augmented=True)},
        'train_dataloader and train_cfg.alpha_dataloader read the same data set',
    ),
    ({'train_cfg.alpha_from': 3}, 'alpha_from=3 must be below max_epochs=3; otherwise α is never trained'),
    ({'train_cfg.alpha_from': -1}, 'train_cfg.alpha_from must be a whole number of at least 0; got -1'),
    ({'train_cfg.alpha_dataloader.num_wrokers': 1}, 'train_cfg.alpha_dataloader.num_wrokers=1 is not a setting'),
    ({'train_cfg.alpha_dataloader.dataset': dict(type='Nois')}, "alpha_dataloader: 'Nois' is not a registered"),
    ({'train_cfg': dict(by_epoch=True, max_epochs=3)}, 'train_cfg.type is EpochBasedTrainLoop'),
    ({'param_scheduler': LIST}, 'param_scheduler must name both optimisers'),
    ({'param_scheduler': dict(weights=LIST)}, 'param_scheduler must name both optimisers'),
    ({'auto_scale_lr': dict(enable=True, base_batch_size=8)}, 'auto_scale_lr .* would also scale .* α'),
    ({'optim_wrapper.alpha': None}, 'optim_wrapper.alpha must configure the optimiser of α'),
    ({'optim_wrapper.alpha.optimizer.type': 'Adma'}, "optim_wrapper.alpha.optimizer: 'Adma' is not a registered"),
    ({'optim_wrapper': PLAIN_WRAPPER}, 'AlternatingTrainLoop needs two optimisers'),
    ({'model.backbone.mixture': False}, 'Tiny has no architecture parameters α'),
    ({'model.type': 'TwoTiny'}, '2 supernets found in TwoTiny; it must be exactly one'),
    ({'search.space.groups': 3}, "search.space differs from the space of the supernet: splits"),
    ({'search.space': dict(type='DetNASSpace')}, 'NATSSearchHook needs a DilationSpace'),
    ({'search.objectives': [dict(name='mAP')]}, "search.objectives: unknown objective 'mAP'"),
    ({'search.export.config': None}, 'search.export.config is missing'),
    (
        {'search.costs': dict(cost=dict(type='OnesCost')),
         'search.constraints': [dict(cost='cost', high=1e12)]},
        'search.constraints: a search by gradient cannot use constraints',
    ),
    ({'custom_hooks': [dict(type='detnas_mm.NATSSearchHook')]}, 'add dict.type=.detnas_mm.EpochSeedHook'),
    (
        {'custom_hooks': [dict(type=f'detnas_mm.{name}') for name in ('NATSSearchHook', 'PathSamplingHook')]},
        'PathSamplingHook trains single paths',
    ),
    ({'custom_hooks.1.calibration': dict(images=8)}, 'NATSSearchHook.calibration must be dict.dataloader=…'),
    (
        {'custom_hooks.1.calibration': dict(dataloader=loader(workers=0, size=8, augmented=False), num_images=9)},
        'between 1 and 8, the number of images of Noise; got 9',
    ),
]  # fmt: skip


@pytest.mark.parametrize('changes, message', REFUSED, ids=[' '.join(changes) for changes, _ in REFUSED])
def test_refused_before_it_trains(tmp_path, monkeypatch, changes, message):
    def step(self, *args, **kwargs):
        raise AssertionError('it trains')

    monkeypatch.setattr(Tiny, 'train_step', step)
    cfg = config(tmp_path, workers=0)
    for key, value in changes.items():
        changed(cfg, key, copy.deepcopy(value))
    if cfg.model.type != 'Tiny':
        plain = tmp_path / 'plain.py'
        plain.write_text(plain.read_text().replace("'Tiny'", repr(cfg.model.type)))
    with pytest.raises(DetNASError, match=message):
        launch.run(cfg)
    assert not (tmp_path / 'epoch_1.pth').exists()


@pytest.mark.parametrize('by_ratio', [False, True])
@pytest.mark.parametrize('shuffle', [False, True])
def test_alphas_images_in_order_are_warned_of(tmp_path, monkeypatch, shuffle, by_ratio):
    monkeypatch.setattr(Noise, 'get_data_info', lambda self, index: dict(width=1 + index % 2, height=1, img_id=index))
    cfg = config(tmp_path, workers=0, loop=dict(max_epochs=1, alpha_from=0, allow_shared_images=True))
    cfg.train_cfg.alpha_dataloader.sampler.shuffle = shuffle
    if by_ratio:
        cfg.train_cfg.alpha_dataloader.batch_sampler = dict(type='mmdet.AspectRatioBatchSampler')
    launch.run(cfg)
    (log,) = tmp_path.glob('*/*.log')
    assert ('alpha_dataloader does not shuffle' in log.read_text()) is not shuffle


def test_calibration_of_frozen_bn_is_refused(tmp_path):
    data = loader(workers=0, size=8, augmented=False)
    cfg = config(tmp_path, workers=0, norm_eval=True, hook=dict(calibration=dict(dataloader=data, num_images=8)))
    with pytest.raises(DetNASError, match='NATSSearchHook.calibration is given, but all 20 BN'):
        launch.run(cfg)


def test_alpha_of_another_space_is_refused(tmp_path):
    """A resumed search loads α in the same way."""
    torch.save(dict(state_dict={'backbone.layer2.0.conv1.alpha': torch.zeros(4, 3)}, meta={}), tmp_path / 'a.pth')
    cfg = config(tmp_path / 'search', workers=0)
    cfg.load_from = str(tmp_path / 'a.pth')
    message = (
        r'a\.pth has α of another space: .* of backbone\.layer2\.0\.conv1\.alpha are \(4, 3\) in .*, \(2, 3\) here'
    )
    with pytest.raises(DetNASError, match=message):
        launch.run(cfg)


def test_images_of_alpha_without_boxes_are_refused(digits_folder, tmp_path):
    data = json.loads((digits_folder / 'annotations' / 'instances_train.json').read_text())
    (tmp_path / 'empty.json').write_text(json.dumps(data | dict(annotations=[])))
    cfg = digits.config('nats-digits_search_retinanet', tmp_path)
    cfg.train_cfg.alpha_dataloader.dataset.filter_cfg = None
    cfg.train_cfg.alpha_dataloader.dataset.ann_file = str(tmp_path / 'empty.json')
    with pytest.raises(DetNASError, match='has a box of'):
        NamedRunner.from_cfg(cfg).train()


def test_a_missing_file_of_alpha_ends_in_a_sentence(digits_folder, tmp_path):
    cfg = digits.written('nats-digits_search_retinanet', tmp_path)
    cfg.train_cfg.alpha_dataloader.dataset.ann_file = 'annotations/none.json'
    with pytest.raises(SystemExit, match='train_cfg: no file .*none.json'):
        launch.run(cfg)
