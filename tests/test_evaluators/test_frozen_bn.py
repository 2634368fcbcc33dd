"""Calibration follows the training: BN layers whose statistics were frozen there keep them.

On random weights, with BN statistics that fit no image, where what decides is compared to the bit.
"""

import copy

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from torch.nn.modules.batchnorm import _BatchNorm

from detnas_mm.evaluators.one_shot import bn_recalibration
from detnas_mm.models.subnet import extract_subnet, slice_state_dict
from tests import digits
from tests.judge import PATHS, Judge, compared_with_exported, raw_predictions

PATH = '1|0|21|3'
SMALL = dict(search__evaluator__calibration__num_images=40, search__evaluator__channels_last=False)
FEW = dict(score_thr=0.0, max_per_img=5)


@pytest.fixture(scope='module')
def make_judge(digits_folder, tmp_path_factory):
    """Makes judges of supernets with random weights and random BN statistics."""

    def make(detector, tmp=None, **changes):
        tmp = tmp or tmp_path_factory.mktemp('frozen')
        cfg = digits.config(f'detnas-digits_search_{detector}', tmp)
        torch.manual_seed(0)
        with digits.scope():
            model = MODELS.build(cfg.model)
        model.init_weights()
        for norm in bn_recalibration.batch_norms(model).values():
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.num_batches_tracked.fill_(7)
        torch.save(model.state_dict(), tmp / 'random.pth')
        return Judge(detector, tmp / 'random.pth', tmp, **SMALL, **changes)

    return make


def freeze(module):
    """Lets a module stay in evaluation mode whatever is asked for; as mmdet's ResNet, it returns None."""

    def train(mode=True):
        for inner in module.modules():
            inner.training = False

    module.train = train


def statistics(state):
    return {key: value.clone() for key, value in state.items() if 'running' in key or 'num_batches' in key}


def changed(judge, path=PATH):
    """Names of the BN layers of a path whose statistics differ while it is recalibrated."""
    supernet, arch = judge.evaluator.supernet, judge.path(path)
    before = slice_state_dict(judge.model.state_dict(), arch, supernet, 'backbone.')
    with judge.evaluator.recalibrated(arch) as model:
        now = slice_state_dict(model.state_dict(), arch, supernet, 'backbone.')
    after = slice_state_dict(judge.model.state_dict(), arch, supernet, 'backbone.')
    assert all(torch.equal(before[key], value) for key, value in after.items()), 'a trace is left'
    return {key.rpartition('.')[0] for key in statistics(now) if not torch.equal(now[key], before[key])}


def all_norms(judge, path=PATH):
    keys = slice_state_dict(judge.model.state_dict(), judge.path(path), judge.evaluator.supernet, 'backbone.')
    return {key.rpartition('.')[0] for key in statistics(keys)}


def test_without_frozen_layers_nothing_is_said_of_them(make_judge, capsys):
    judge = make_judge('retinanet')
    assert judge.evaluator.spec()['calibration'].keys() == {'images', 'batch_size', 'images_digest', 'part'}
    assert 'BN statistics' not in capsys.readouterr().out
    assert changed(judge) == all_norms(judge)


def test_frozen_stages_keep_their_statistics_and_normalise_by_them(make_judge, capsys):
    """Against numpy in float64, from what flows into the BN layers of the fixed net in training mode."""
    judge = make_judge('retinanet', model__backbone__frozen_stages=2)
    names = [name for name, module in judge.model.named_modules() if isinstance(module, _BatchNorm)]
    kept = [name for name in names if name.startswith(('backbone.stem', 'backbone.blocks.0', 'backbone.blocks.1'))]
    assert 0 < len(kept) < len(names)
    assert (
        f'BN statistics: {len(names) - len(kept)} of {len(names)} layers recalibrated; {len(kept)} frozen in '
        f'training (norm_eval, frozen_stages) and kept.'
    ) in capsys.readouterr().out
    assert judge.evaluator.spec()['calibration']['frozen']['layers'] == len(kept)

    path, calibration, inputs = judge.path(PATH), judge.evaluator.calibration, {}
    detector = copy.deepcopy(judge.model)
    detector.backbone = extract_subnet(judge.model.backbone, path, judge.cfg.model.backbone)
    detector.train()
    for name, module in detector.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            module.register_forward_pre_hook(
                lambda m, args, name=name: inputs.setdefault(name, []).append(args[0].double().numpy())
            )
    with torch.no_grad():
        for _, data in calibration.walk(range(len(calibration))):
            detector.extract_feat(detector.data_preprocessor(data, False)['inputs'])
    with judge.evaluator.recalibrated(path) as model:
        found = slice_state_dict(model.state_dict(), path, judge.evaluator.supernet, 'backbone.')
    assert changed(judge) == inputs.keys() < all_norms(judge)
    for name, batches in inputs.items():
        assert len(batches) == len(calibration) == 2
        means, variances = [x.mean((0, 2, 3)) for x in batches], [x.var((0, 2, 3), ddof=1) for x in batches]
        np.testing.assert_allclose(found[f'{name}.running_mean'], np.mean(means, 0), rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found[f'{name}.running_var'], np.mean(variances, 0), rtol=1e-3, atol=1e-5)


def test_which_layers_are_frozen_is_part_of_the_spec(make_judge):
    """As many layers, but others: statistics of the two do not compare."""
    specs = []
    for part in ('stem', 'last block'):
        judge = make_judge('retinanet')
        backbone = judge.model.backbone
        norms = [m for m in backbone.modules() if isinstance(m, _BatchNorm)]
        freeze(norms[0] if part == 'stem' else norms[-1])
        with digits.scope():
            judge.evaluator.setup(judge.job, judge.model)
        specs.append(judge.evaluator.spec()['calibration'])
    first, second = (spec.pop('frozen') for spec in specs)
    assert specs[0] == specs[1] and first['layers'] == second['layers'] == 1 and first != second


def test_calibration_where_all_bn_was_frozen_is_refused_before_images_are_read(make_judge, monkeypatch):
    monkeypatch.setattr('detnas_mm.evaluators.one_shot.evaluator.FixedBatches', None)
    match = r'^search.evaluator.calibration is given, but all \d+ BN layers of RetinaNet.*evaluator.calibration=None.$'
    with pytest.raises(ValueError, match=match):
        make_judge('retinanet', model__backbone__norm_eval=True)


def test_all_frozen_and_no_calibration(make_judge, tmp_path, capsys, monkeypatch):
    """Scores are those of the model as it is, before and after, and of the exported net."""
    changes = dict(model__backbone__norm_eval=True, search__evaluator__calibration=None)
    judge = make_judge('retinanet', model__test_cfg=FEW, **changes)
    assert judge.evaluator.spec()['calibration'] is None and 'BN statistics' not in capsys.readouterr().out

    def as_it_is():
        judge.model.backbone.set_path(PATH)
        with digits.scope():
            found = raw_predictions(judge.model.eval(), judge.evaluator.batches)
        judge.model.backbone.set_path(None)
        return found

    before = as_it_is()
    (compared,) = compared_with_exported(judge, [PATH], tmp_path, monkeypatch)
    assert compared.scores[0] == compared.scores[1]
    for rows in zip(*compared.rows, strict=True):
        assert all(np.array_equal(*(row[1][key] for row in rows)) for key in ('bboxes', 'scores', 'labels'))
    for predictions in (judge.predictions(PATH), as_it_is()):
        assert all(torch.equal(a, b) for a, b in zip(predictions, before, strict=True)) and sum(map(len, before)) > 50
    assert changed(judge) == set()


def test_only_parts_with_layers_to_recalibrate_are_run(make_judge):
    """BN of the neck and the head is trained, the backbone's is not; then the neck's alone; then the backbone's."""
    judge = make_judge('fpn', model__backbone__norm_eval=True)
    assert {name.split('.')[0] for name in changed(judge)} == {'neck', 'roi_head'}
    parts = [judge.evaluator.spec()['calibration']['part']]
    for part, norm_eval in (('roi_head', True), ('neck', False)):
        freeze(getattr(judge.model, part))
        judge.model.backbone.norm_eval = norm_eval
        with digits.scope():
            judge.evaluator.setup(judge.job, judge.model)
        parts.append(judge.evaluator.spec()['calibration']['part'])
        assert {name.split('.')[0] for name in changed(judge)} == {'neck' if norm_eval else 'backbone'}
    assert parts == ['model', 'neck', 'backbone']


@pytest.mark.slow
@pytest.mark.parametrize(
    ('which', 'change', 'kept'),
    [
        ('retinanet', dict(frozen_stages=1), ('backbone.stem.', 'backbone.blocks.0.')),
        ('fpn', dict(norm_eval=True), ('backbone.',)),
    ],
)
def test_candidates_of_trained_supernets_are_the_exported_nets(which, change, kept, request, tmp_path, monkeypatch):
    """Buffers, predictions and unrounded scores, by mmengine's Runner.test on the exported net."""
    changes = {f'model__backbone__{key}': value for key, value in change.items()}
    judge = Judge(which, request.getfixturevalue(f'{which}_supernet'), tmp_path, **changes)
    for arch, found in zip(PATHS[:2], compared_with_exported(judge, PATHS[:2], tmp_path, monkeypatch), strict=True):
        ours, theirs = found.buffers
        assert [k for k in ours if 'num_batches' not in k and not torch.equal(ours[k], theirs[k])] == []
        before = slice_state_dict(judge.model.state_dict(), judge.path(arch), judge.evaluator.supernet, 'backbone.')
        running = [key for key in before if 'running' in key]
        assert [k for k in running if torch.equal(theirs[k], before[k])] == [k for k in running if k.startswith(kept)]
        for (_, first), (_, second) in zip(*found.rows, strict=True):
            assert all(np.array_equal(first[key], second[key]) for key in ('bboxes', 'scores', 'labels'))
        # The config's metric, FasterCocoMetric, adds up in another order.
        assert found.scores[0] == pytest.approx(found.scores[1], rel=1e-12) and found.scores[0] > 0
