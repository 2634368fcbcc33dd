"""Settings of data loaders that a config gives."""

import pytest
from torch.utils.data import SequentialSampler

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.batches import checked_loader
from detnas_mm.evaluators.loaders import fitted_loader


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (
            dict(num_worker=2),
            'loader.num_worker=2 is not a setting of a dataloader; did you mean num_workers.* dataset, ',
        ),
        (dict(batch_size=0), 'loader.batch_size must be a whole number of at least 1; got 0'),
        (dict(batch_size='8'), "loader.batch_size .*; got '8'"),
        (dict(num_workers=-1), 'loader.num_workers must be a whole number of at least 0; got -1'),
        (dict(num_workers=True), 'loader.num_workers .*; got True'),
        (dict(num_workers=1, prefetch_factor=0), 'loader.prefetch_factor .* at least 1; got 0'),
        (
            dict(sampler=5),
            'loader.sampler must be a dict with the settings of a sampler, such as .*DefaultSampler.*; got 5',
        ),
        (dict(sampler='DefaultSampler'), "loader.sampler must be .*; got 'DefaultSampler'"),
        (dict(batch_sampler=True), 'loader.batch_sampler must be .*AspectRatioBatchSampler.*; got True'),
    ],
)
def test_settings_of_dataloaders(settings, message):
    cfg = dict(batch_size=2, dataset=dict(type='CocoDataset')) | settings
    for read in (fitted_loader, checked_loader):
        with pytest.raises(DetNASError, match=f'^{message}'):
            read('loader', cfg)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        (5, r'loader must be a dict, such as dict\(batch_size=8, .*; got 5'),
        (
            dict(batch_size=2, dataset='CocoDataset'),
            "loader.dataset must be a dict with the settings of a data set, as in .*; got 'CocoDataset'",
        ),
        (dict(batch_size=2, dataset=5), 'loader.dataset must be .*; got 5'),
    ],
)
def test_what_is_no_loader_or_data_set_is_named(settings, message):
    with pytest.raises(DetNASError, match=f'^{message}'):
        fitted_loader('loader', settings)


@pytest.mark.parametrize(
    'sampler', [None, dict(type='DefaultSampler', shuffle=False), [2, 0, 1], SequentialSampler([0])]
)
def test_what_torch_takes_as_a_sampler_stays(sampler):
    cfg = dict(batch_size=2, dataset={}, sampler=sampler)
    assert fitted_loader('loader', cfg) == cfg


def test_settings_of_workers_go_where_there_are_none():
    cfg = dict(batch_size=2, dataset={}, persistent_workers=True, prefetch_factor=4)
    assert fitted_loader('loader', cfg | dict(num_workers=0)) == dict(batch_size=2, dataset={}, num_workers=0)
    assert checked_loader('loader', cfg) == dict(batch_size=2, dataset={})
    assert fitted_loader('loader', cfg | dict(num_workers=1)) == cfg | dict(num_workers=1)
    assert cfg['persistent_workers']  # written configs keep them
