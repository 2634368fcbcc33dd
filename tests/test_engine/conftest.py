"""Fixtures for several files of this folder."""

import pytest

from detnas_mm.engine import launch
from tests import digits


@pytest.fixture
def train(digits_folder, tmp_path):
    """Trains the RetinaNet supernet of Digits for a step, with changes of its config (``a__b=…`` for ``a.b``)."""

    def run(**changes):
        changes = dict(train_cfg__max_iters=1) | changes
        launch.run(digits.written('detnas-digits_supernet_retinanet', tmp_path, **changes))

    return run
