"""Loading logs the share of a backbone in a checkpoint, and fails if it is too small, in all ways of loading."""

import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from torch import nn

from detnas_mm.errors import DetNASError
from detnas_mm.systems.detnas import DetNASNet, DetNASSupernet


@pytest.fixture
def log(caplog):
    """Collects the log lines of mmengine."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.fixture
def source(tiny, randomise):
    return randomise(DetNASNet('03|12', space=tiny))


def load_plain(net, state_dict, tmp_path, strict=False):
    net.load_state_dict(state_dict, strict=strict)


def load_mmengine(net, state_dict, tmp_path):
    torch.save(dict(state_dict=state_dict), tmp_path / 'a.pth')
    load_checkpoint(net, str(tmp_path / 'a.pth'), map_location='cpu')


def load_init_cfg(net, state_dict, tmp_path):
    torch.save(dict(state_dict=state_dict), tmp_path / 'a.pth')
    net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))
    net.init_weights()


def load_init_cfg_with_prefix(net, state_dict, tmp_path):
    whole = {'neck.weight': torch.zeros(1), **{f'backbone.{k}': v for k, v in state_dict.items()}}
    torch.save(dict(state_dict=whole), tmp_path / 'a.pth')
    net.init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'), prefix='backbone.')
    net.init_weights()


def load_as_part_of_a_model(net, state_dict, tmp_path):
    model = nn.ModuleDict(dict(backbone=net))
    load_mmengine(model, {f'module.backbone.{k}': v for k, v in state_dict.items()}, tmp_path)


every_door = pytest.mark.parametrize(
    'load', [load_plain, load_mmengine, load_init_cfg, load_init_cfg_with_prefix, load_as_part_of_a_model]
)


@every_door
def test_a_full_load_is_reported_and_real(load, tiny, source, log, tmp_path):
    net = DetNASNet('03|12', space=tiny)
    load(net, source.state_dict(), tmp_path)
    assert all(torch.equal(v, source.state_dict()[k]) for k, v in net.state_dict().items())
    number = sum(not k.endswith('num_batches_tracked') for k in source.state_dict())
    (line,) = (r.getMessage() for r in log.records if 'found in the checkpoint' in r.getMessage())
    assert line.startswith(f'100.0% of the {number} tensors of ') and 'DetNASNet' in line


@every_door
def test_too_little_is_refused(load, tiny, source, tmp_path):
    state_dict = source.state_dict()
    del state_dict['stem.conv.weight']
    state_dict['blocks.1.main.0.conv.weight'] = torch.zeros(9)
    net = DetNASNet('03|12', space=tiny)
    with pytest.raises(DetNASError, match=r'Only 9\d\.\d% of .* 100\.0% are required') as error:
        load(net, state_dict, tmp_path)
    assert 'stem.conv.weight (missing)' in str(error.value)
    assert 'blocks.1.main.0.conv.weight (shape)' in str(error.value)


@pytest.mark.parametrize('load', [load_plain, load_mmengine, load_init_cfg])
def test_the_threshold_is_the_users(load, tiny, source, log, tmp_path):
    state_dict = {k: v for k, v in source.state_dict().items() if k.startswith('stem.')}
    net = DetNASNet('03|12', space=tiny, min_loaded=0.05)
    load(net, state_dict, tmp_path)
    assert torch.equal(net.stem.conv.weight, source.stem.conv.weight)
    assert any('found in the checkpoint' in r.getMessage() and '100' not in r.getMessage() for r in log.records)
    with pytest.raises(DetNASError, match=r'20\.0% are required'):
        load(DetNASNet('03|12', space=tiny, min_loaded=0.2), state_dict, tmp_path)


def test_a_foreign_checkpoint_is_refused_with_a_remedy(tiny, source, tmp_path):
    wrong = {f'backbone.{k}': v for k, v in source.state_dict().items()}
    with pytest.raises(DetNASError, match=r"Only 0\.0%.*such as backbone\.stem.*prefix='backbone\.'"):
        load_init_cfg(DetNASNet('03|12', space=tiny), wrong, tmp_path)
    with pytest.raises(DetNASError, match='Only .* are required'):
        DetNASSupernet(tiny).load_state_dict(source.state_dict(), strict=False)
    with pytest.raises(DetNASError, match='Only .* are required'):
        DetNASNet('03|13', space=tiny).load_state_dict(source.state_dict(), strict=False)


def test_batch_counters_and_extra_keys_do_not_matter(tiny, source):
    state_dict = {k: v for k, v in source.state_dict().items() if not k.endswith('num_batches_tracked')}
    DetNASNet('03|12', space=tiny).load_state_dict({**state_dict, 'extra': torch.zeros(1)}, strict=False)
    with pytest.raises(RuntimeError, match='Unexpected key'):
        DetNASNet('03|12', space=tiny).load_state_dict({**state_dict, 'extra': torch.zeros(1)})


def test_a_supernet_in_a_checkpoint_is_reported_too(tiny, randomise, log, tmp_path):
    source = randomise(DetNASSupernet(tiny))
    load_mmengine(DetNASSupernet(tiny), source.state_dict(), tmp_path)
    assert any('100.0% of the' in r.getMessage() and 'DetNASSupernet' in r.getMessage() for r in log.records)
