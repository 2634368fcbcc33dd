"""Channels of exported nets are sorted by the function that the space names; without one the key is refused."""

import pytest
import torch
from mmengine.config import Config

from detnas_mm.engine.export import Exporter
from detnas_mm.errors import DetNASError
from detnas_mm.registry import MODELS

from .test_export import ARCH, Weights, job_of


@MODELS.register_module(force=True)
def reversing(cfg, weights):
    """Says that the net is reversed, and reverses its weights; draws random numbers."""
    torch.rand(3)
    if cfg['model']['backbone'].get('fails') or any(value.isnan().any() for value in weights.values()):
        raise DetNASError('weights are not finite.')
    model = dict(cfg['model'], backbone=dict(cfg['model']['backbone'], order='reversed'))
    return dict(cfg, model=model), {key: value.flip(0) for key, value in weights.items()}, dict(order=1), 'Reversed.'


class NaNs(Weights):
    """Gives weights that are not numbers."""

    def weights(self, arch):
        return {key: value * float('nan') for key, value in super().weights(arch).items()}


class NoWeights(Weights):
    """Gives no weights."""

    def weights(self, arch):
        return None


def write(folder, evaluator, sort=True):
    """(configs by name, checkpoint, log lines) of a net of a space with that function."""
    job, lines = job_of(folder, search__export__sort_channels=sort), []
    job.space.channel_sorter, job.log = 'detnas_mm.reversing', lines.append
    job.evaluator = evaluator
    evaluator.setup(job)
    evaluator.needs_model = True
    torch.manual_seed(0)
    files = Exporter(job).write(job.space.parse(ARCH), folder / 'net', dict(id='x'))
    configs = {key: Config.fromfile(path) for key, path in files.items() if key != 'checkpoint'}
    checkpoint = torch.load(files['checkpoint'], weights_only=True) if 'checkpoint' in files else None
    return configs, checkpoint, lines


def test_both_configs_and_the_weights_are_sorted(tmp_path):
    configs, checkpoint, lines = write(tmp_path / 'sorted', Weights())
    plain, expected, silent = write(tmp_path / 'plain', Weights(), sort=False)
    assert [cfg.model.backbone.pop('order') for cfg in configs.values()] == ['reversed', 'reversed']
    for name, cfg in plain.items():
        assert cfg.model.backbone == configs[name].model.backbone
    assert lines == ['Reversed.'] and not silent
    assert checkpoint['meta'] == expected['meta'] | dict(order=1)
    for key, value in expected['state_dict'].items():  # equal weights were drawn: sorting has its own random numbers
        assert torch.equal(checkpoint['state_dict'][key], value.flip(0)), key


@pytest.mark.parametrize(
    ('evaluator', 'reason'),
    [(NaNs(), 'weights are not finite.'), (NoWeights(), 'no weights are exported.')],
)
def test_a_net_that_cannot_be_sorted_is_exported_as_it_is(tmp_path, evaluator, reason):
    configs, checkpoint, lines = write(tmp_path, evaluator)
    assert 'order' not in configs['config'].model.backbone and (checkpoint is None or 'order' not in checkpoint['meta'])
    assert lines == [f'search.export.sort_channels: all channels stay in place: {reason}']


def test_nets_that_cannot_be_sorted_are_refused_before_the_search(tmp_path):
    job = job_of(tmp_path, search__export__sort_channels=True)
    with pytest.raises(DetNASError, match='sort_channels: DetNASSpace has no function that sorts .*Remove the key'):
        Exporter(job)
    job.space.channel_sorter = 'detnas_mm.unknown'
    with pytest.raises(DetNASError, match="channel_sorter is 'detnas_mm.unknown'"):
        Exporter(job)
    with pytest.raises(DetNASError, match="search.export.sort_channels must be True or False; got 'yes'"):
        job_of(tmp_path, search__export__sort_channels='yes')
