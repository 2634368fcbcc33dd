"""Resolving and writing the ``type`` of a config, as text or as class."""

import pytest
import torch
from mmcv.cnn import build_norm_layer
from mmcv.ops import SyncBatchNorm, nms
from mmengine.config import Config
from mmengine.hooks import EMAHook, Hook
from mmengine.model import PretrainedInit
from mmengine.registry import HOOKS, METRICS, MODELS

from detnas_mm.config_types import as_text, comparable, is_hook, is_other, named_nodes, nodes, resolve_type, type_name
from detnas_mm.engine import EvolutionSearchHook, PathSamplingHook, SearchHook
from detnas_mm.registry import COSTS
from detnas_mm.systems.detnas import MacsTable


class OwnSearchHook(EvolutionSearchHook):
    """A search hook of a user."""


@pytest.mark.parametrize(
    'hook, scope',
    [
        (dict(type='detnas_mm.EvolutionSearchHook'), 'mmdet'),
        (dict(type='detnas_mm.EvolutionSearchHook'), None),
        (dict(type='detnas_mm.engine.hooks.EvolutionSearchHook'), 'mmpretrain'),
        (dict(type='EvolutionSearchHook'), 'detnas_mm'),
        (dict(type='EvolutionSearchHook', _scope_='detnas_mm'), 'mmdet'),
        (dict(type=EvolutionSearchHook), 'mmdet'),
        (dict(type=SearchHook), 'mmdet'),
        (dict(type=OwnSearchHook), None),
        (Config(dict(hook=dict(type=OwnSearchHook))).hook, 'mmdet'),
        (OwnSearchHook(), None),
    ],
)
def test_a_hook_is_recognised_by_its_class(hook, scope):
    assert is_hook(hook, SearchHook, scope) and is_hook(hook, 'detnas_mm.engine.SearchHook', scope)
    assert not is_hook(hook, PathSamplingHook, scope) and not is_hook(hook, 'detnas_mm.PathSamplingHook', scope)


@pytest.mark.parametrize(
    'hook',
    [
        dict(type='EMAHook'),
        dict(type=EMAHook),
        EMAHook(),
        dict(type='SetEpochInfoHook'),  # mmdet's
        dict(type='EvolutionSearchHook'),  # of nobody in this scope
        dict(type='elsewhere.EvolutionSearchHook'),
        dict(type='Nothing'),
        dict(type=lambda: SearchHook()),
        dict(interval=1),
    ],
)
def test_others_are_none_of_ours(hook):
    assert not is_hook(hook, SearchHook, 'mmdet') and not is_hook(hook, 'detnas_mm.PathSamplingHook', 'mmdet')


def test_text_is_looked_up_in_the_default_scope():
    found = resolve_type(dict(type='SetEpochInfoHook'), HOOKS, 'mmdet')
    assert issubclass(found, Hook) and found.__module__.startswith('mmdet.')
    assert resolve_type(dict(type='SetEpochInfoHook'), HOOKS) is None
    assert resolve_type(dict(type='MacsTable'), COSTS) is resolve_type(dict(type=MacsTable), COSTS) is MacsTable
    assert resolve_type(dict(), COSTS) is None


def test_names():
    for kind in ('SyncBN', 'mmcv.SyncBN', 'MMSyncBN', torch.nn.SyncBatchNorm, SyncBatchNorm):
        assert is_other(dict(type=kind), 'SyncBN') and not is_other(dict(type=kind), 'Pretrained')
    for kind in ('BN', torch.nn.BatchNorm2d, 'GN', None):
        assert not is_other(dict(type=kind), 'SyncBN')
    assert is_other(dict(type='Pretrained'), 'Pretrained') and is_other(dict(type=PretrainedInit), 'Pretrained')
    assert is_other(dict(type='nms'), 'nms') and is_other(dict(type=nms), 'nms')
    assert not is_other(dict(type='soft_nms'), 'nms') and not is_other(dict(), 'nms')
    assert type_name('mmdet.X') == 'X' and type_name('X') == 'X' and type_name(Hook) == 'Hook'


NEW_STYLE = """
from mmcv.ops import nms as suppress
from mmdet import models
from mmdet.evaluation import CocoMetric
from mmengine.model import PretrainedInit
from torch.nn import SyncBatchNorm
from torch.nn.modules import batchnorm
from detnas_mm.engine import PathSamplingHook
from tests.test_config_types import CLASSES

model = dict(
    type=models.RetinaNet,
    backbone=dict(norm_cfg=dict(type=SyncBatchNorm), init_cfg=[dict(type=PretrainedInit, checkpoint='a.pth')]),
    test_cfg=dict(nms=dict(type=suppress)),
    metainfo=dict(classes=CLASSES),
)
test_evaluator = [dict(type=CocoMetric, others=(batchnorm.BatchNorm2d, 'BN', 1.5, None))]
custom_hooks = [dict(type=PathSamplingHook)]
"""
CLASSES = ('traffic light', 'car')


def test_classes_become_text_that_means_the_same(tmp_path):
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    cfg = Config.fromfile(tmp_path / 'new.py')
    text = as_text(cfg).to_dict()
    assert sorted(text) == ['custom_hooks', 'model', 'test_evaluator']  # not what the file imports
    assert Config.fromstring(as_text(cfg).pretty_text, '.py').to_dict() == text
    model, (metric,), (hook,) = text['model'], text['test_evaluator'], text['custom_hooks']
    assert MODELS.get(model['type']) is cfg.model.type and METRICS.get(metric['type']) is cfg.test_evaluator[0].type
    assert HOOKS.get(hook['type']) is PathSamplingHook
    norm = build_norm_layer(model['backbone']['norm_cfg'], 4)[1]
    assert type(norm) is torch.nn.SyncBatchNorm and MODELS.get(metric['others'][0]) is torch.nn.BatchNorm2d
    assert metric['others'][1:] == ('BN', 1.5, None)
    assert model['metainfo'] == dict(classes=CLASSES)  # mmengine would write the text 'tests.test_config_types.CLASSES'
    # Where mmengine and mmcv read a type as text they know short names alone.
    assert model['backbone']['init_cfg'] == [dict(type='Pretrained', checkpoint='a.pth')]
    assert model['test_cfg'] == dict(nms=dict(type='nms'))


def test_what_has_no_name_is_refused():
    class Local(Hook):
        pass

    for kind in (Local, lambda: None):
        with pytest.raises(
            ValueError, match=r'<locals>.*, which cannot be imported as .*Define it at the top of a module'
        ):
            as_text(Config(dict(hook=dict(type=kind))))


def test_settings_compare_equal_whatever_file_they_were_read_from(tmp_path):
    (tmp_path / 'new.py').write_text(NEW_STYLE)
    cfg = Config.fromfile(tmp_path / 'new.py')
    written = Config.fromstring(as_text(cfg).pretty_text, '.py')  # keys sorted, classes as text
    keys = 'model', 'test_evaluator', 'custom_hooks'
    first, second = ([comparable(one[key]) for key in keys] for one in (cfg, written))
    assert repr(first) == repr(second)
    assert first[1] == second[1] and first[1][0]['others'][1:] == ['BN', '1.5', 'None']
    other = [comparable(cfg[key], lambda value: f'<{value}>', skip=('others', 'type')) for key in keys]
    assert other[1:] == [[{}], [{}]] and "['<traffic light>', '<car>']" in repr(other[0])


def test_every_dict_of_a_config_has_its_place():
    """Outer ones come first, as they are written; what is no dict has none."""
    neck = [dict(type='A', norm_cfg=dict(type='BN')), 'no dict', dict(type='B')]
    model = dict(type='M', neck=neck, depth=3)
    places = {
        'model': model,
        'model.neck.0': neck[0],
        'model.neck.0.norm_cfg': dict(type='BN'),
        'model.neck.2': neck[2],
    }
    assert list(named_nodes('model', model)) == list(places.items())
    assert list(nodes(model)) == list(places.values())
    assert not list(nodes(None)) and not list(nodes('text')) and not is_other(None, 'SyncBN')
