"""Markers and shared fixtures of the suite."""

import os
import sys

import pytest

MARKERS = {
    'slow': 'trains, searches or starts other programs for more than a few seconds',
    'packaging': 'builds distributions of this package and looks into them',
    'gpu': 'needs a GPU that torch and mmcv can use; the other tests are kept from seeing one',
    'smoke': 'part of the slice that runs with both families of OpenMMLab distributions',
}


def pytest_configure(config):
    for name, meaning in MARKERS.items():
        config.addinivalue_line('markers', f'{name}: {meaning}')
    if config.option.markexpr != 'gpu':  # results to the bit, which the other tests ask for, are a matter of one device
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
    # Printed commands begin with `python` where that is this interpreter, as in an activated environment.
    os.environ['PATH'] = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get('PATH', os.defpath)])


@pytest.fixture(autouse=True)
def no_scope_left_behind():
    """A Runner leaves its default scope and logger in force for the rest of the process."""
    yield
    mmengine = sys.modules.get('mmengine')
    if mmengine is not None and 'mmengine.registry' in sys.modules:
        mmengine.registry.DefaultScope._instance_dict.clear()
        mmengine.logging.MMLogger._instance_dict.clear()


@pytest.fixture(scope='session')
def digits_folder(tmp_path_factory):
    """A small Digits set, which the configs in configs/digits find."""
    from tests import digits

    return digits.make(tmp_path_factory.mktemp('digits'))


@pytest.fixture(scope='session')
def retinanet_supernet(digits_folder, tmp_path_factory):
    """Checkpoint of a trained supernet in a RetinaNet."""
    from tests import digits

    return digits.train_supernet('retinanet', tmp_path_factory.mktemp('supernet'))


@pytest.fixture(scope='session')
def fpn_supernet(digits_folder, tmp_path_factory):
    """Checkpoint of a trained supernet in a Faster R-CNN with BN in neck and head."""
    from tests import digits

    return digits.train_supernet('fpn', tmp_path_factory.mktemp('supernet'), 80, 140)
