"""Checkpoint files that users hand over: names of weights, prefixes, and files that are none."""

import pytest
import torch

from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.engine import launch
from detnas_mm.errors import DetNASError
from detnas_mm.models import build_model
from tests import digits


@pytest.fixture(scope='module')
def weights(digits_folder, tmp_path_factory):
    """Weights of a classifier that holds the supernet of Digits, at random."""
    cfg = digits.written('detnas-digits_supernet_cls', tmp_path_factory.mktemp('cls'))
    return build_model(cfg).state_dict()


def pretrained(path, prefix='backbone.'):
    return dict(type='Pretrained', checkpoint=str(path), **({} if prefix is None else dict(prefix=prefix)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ('before', 'under', 'prefix'),
    [
        ('module.', 'state_dict', 'backbone.'),
        ('module.', 'state_dict', 'module.backbone'),
        ('_orig_mod.', None, 'backbone'),
        ('module._orig_mod.', 'model', 'backbone.'),
    ],
)
def test_what_wrappers_put_before_names_is_taken_off(train, weights, tmp_path, monkeypatch, before, under, prefix):
    found = {before + key: value for key, value in weights.items()}
    torch.save(found if under is None else {under: found}, tmp_path / 'a.pth')
    models = []
    monkeypatch.setattr(launch.NamedRunner, 'call_hook', lambda self, name, **_: models.append(self.model))
    monkeypatch.setattr('mmengine.runner.IterBasedTrainLoop.run', lambda self: None)
    train(model__backbone__init_cfg=pretrained(tmp_path / 'a.pth', prefix))
    key = 'backbone.blocks.0.0.'
    own = {name: value for name, value in models[0].state_dict().items() if name.startswith(key)}
    assert own and all(torch.equal(value, weights[name]) for name, value in own.items())


@pytest.mark.parametrize(
    ('prefix', 'message'),
    [
        ('model.backbone.', r"under prefix='model.backbone.'. .* backbone.stem.* Set prefix='backbone.'."),
        (None, r"without a prefix. .* Set prefix='backbone.'."),
        ('head.', r"under prefix='head.'. .* Set prefix='backbone.'."),
    ],
)
def test_a_prefix_that_matches_nothing_is_refused_with_one_that_fits(train, weights, tmp_path, prefix, message):
    torch.save(dict(state_dict=weights), tmp_path / 'a.pth')
    with pytest.raises(DetNASError, match=rf'a.pth has no weights of model.backbone \(DetNASSupernet\) {message}$'):
        train(model__backbone__init_cfg=pretrained(tmp_path / 'a.pth', prefix))


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ([1, 2], 'is not a checkpoint: it has a list, but no weights'),
        (torch.ones(3), 'is not a checkpoint: it has a Tensor, but no weights'),
        (dict(epoch=3, lr=0.1), 'is not a checkpoint: it has the keys epoch, lr, but no weights'),
        (b'', 'is not a checkpoint: the file is empty'),
        (b'PK\x03\x04 cut', 'cannot be read as a checkpoint, it is damaged or truncated: '),
        (b'<html>\n', 'is not a checkpoint: it is text that begins with .<html>'),
        (None, 'there is no checkpoint .*a.pth: it is a folder'),
    ],
)
def test_files_that_are_no_checkpoints(train, tmp_path, content, message):
    path = tmp_path / 'a.pth'
    if content is None:
        path.mkdir()
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    for changes in (dict(load_from=str(path)), dict(model__backbone__init_cfg=pretrained(path))):
        with pytest.raises(SystemExit, match=f'^error: .*{message}'):
            train(**changes)


@pytest.mark.parametrize('zipped', [True, False])
def test_a_checkpoint_that_is_cut_short_anywhere_is_said_in_one_line(tmp_path, zipped):
    whole, cut = tmp_path / 'whole.pth', tmp_path / 'cut.pth'
    torch.save(
        dict(state_dict={f'layer{i}': torch.ones(9, 9) for i in range(9)}), whole, _use_new_zipfile_serialization=zipped
    )
    content = whole.read_bytes()
    for length in {*range(1, 1500, 29), *range(1500, len(content), 211)}:
        cut.write_bytes(content[:length])
        with pytest.raises(DetNASError, match='cut.pth (cannot be read as a checkpoint|holds more than tensors)'):
            load_checkpoint_file(cut)
