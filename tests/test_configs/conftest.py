import copy
import functools
import gc
import os

import pytest
import torch
import yapf.yapflib.yapf_api
from mmengine.config import Config

from tests import latency

from .leaves import LEAVES


@pytest.fixture(scope='session')
def load(tmp_path_factory):
    """Loads a config by name, with a synthetic latency table if it needs one; the result may be changed."""
    folder = tmp_path_factory.mktemp('latency')

    @functools.cache
    def read(name, places):  # configs are read for where data lie, which :func:`data` changes
        return latency.provide(Config.fromfile(LEAVES[name]), folder / name)

    def places():
        return tuple(sorted(item for item in os.environ.items() if item[0].startswith('DETNAS_')))

    return lambda name: copy.deepcopy(read(name, places()))


@pytest.fixture(scope='session')
def data_folders(tmp_path_factory):
    """Makes the tiny data sets once; returns the variables that name their folders."""
    from . import synthetic_data

    return synthetic_data.make_all(tmp_path_factory.mktemp('data'))


@pytest.fixture(scope='module')
def data(data_folders):
    """Lets configs that are loaded from here on find the tiny data sets."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in data_folders.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope='module')
def quick():
    """Turns off slow parts of a step that are not tested.

    mmengine formats every config five times by yapf, and collects garbage for every data set.
    """
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf.yapflib.yapf_api, 'FormatCode', lambda text, **_: (text, True))
        patch.setenv('TQDM_DISABLE', '1')
        torch.set_num_threads(1)
        gc.collect()
        gc.freeze()
        yield
        gc.unfreeze()
        torch.set_num_threads(threads)
