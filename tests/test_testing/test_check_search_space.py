"""The conformance suite of spaces passes good ones (see test_spaces) and names what is wrong with bad ones."""

from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.testing import check_search_space

ROOT = Path(__file__).parents[2]
TINY = dict(stem=4, channels=(8, 12), blocks=(2, 2))


class GlobalSample(DetNASSpace):
    def sample(self, rng):
        return Architecture(tuple(np.random.randint(4, size=self.num_blocks).tolist()))


class HiddenState(DetNASSpace):
    calls = 0

    def mutate(self, arch, rng, prob):
        self.calls += 1
        return super().mutate(arch, np.random.default_rng(self.calls), prob)


class TupleSpec(DetNASSpace):
    def spec(self):
        return {**super().spec(), 'channels': self.channels}


class OneDraw(DetNASSpace):
    def sample_ids(self, rng, count):
        return np.ones((count, self.num_blocks), int)


class OutsideSample(DetNASSpace):
    def sample_many(self, rng, count):
        return [Architecture((4,) * self.num_blocks) for _ in range(count)]


class ForgetfulText(DetNASSpace):
    def describe(self, arch):
        return super().describe(Architecture((0, *arch.genes[1:])))


class EagerMutation(DetNASSpace):
    def mutate(self, arch, rng, prob):
        return super().mutate(arch, rng, 1.0)


class NoMutation(DetNASSpace):
    def mutate(self, arch, rng, prob):
        return arch


class LeakyCrossover(DetNASSpace):
    def crossover(self, first, second, rng):
        return self.mutate(super().crossover(first, second, rng), rng, 0.5)


class AnythingGoes(DetNASSpace):
    def validate(self, arch):
        pass


class WrongError(DetNASSpace):
    def parse(self, value):
        if value is None:
            raise KeyError(value)
        return super().parse(value)


class FloatCode(DetNASSpace):
    def encode(self, archs):
        return super().encode(archs) / 2


class LossyCode(DetNASSpace):
    def encode(self, archs):
        return super().encode(archs)[:, 1:]


class Drifting(DetNASSpace):
    def sample(self, rng):
        self.last_channels += 1
        return super().sample(rng)


@pytest.mark.parametrize(
    ('kind', 'match'),
    [
        (GlobalSample, 'sample draws from a global generator'),
        (HiddenState, 'mutate gave .* for equal generators'),
        (TupleSpec, 'does not survive JSON'),
        (OneDraw, 'all equal'),
        (ForgetfulText, r'parse\(describe\(arch\)\) gave'),
        (EagerMutation, 'mutate with probability 0 changed'),
        (NoMutation, 'mutate with probability 1 changed none'),
        (LeakyCrossover, 'with itself gave'),
        (AnythingGoes, r'validate\(.*must raise a ValueError; it returned'),
        (WrongError, r'parse\(None\) must raise a ValueError; it raised KeyError'),
        (FloatCode, 'encode must give integers'),
        (LossyCode, 'equal rows for different'),
        (Drifting, 'was changed by using it'),
    ],
)
def test_broken_spaces_are_caught(kind, match):
    with pytest.raises(AssertionError, match=match):
        check_search_space(kind(TINY))


class InPlace(DetNASSpace):
    def configure(self, cfg, arch):
        cfg.update(super().configure({}, arch))
        return cfg


class SharedPart(DetNASSpace):
    part = dict(type='BN')

    def configure(self, cfg, arch):
        out = super().configure(cfg, arch)
        out['model']['backbone']['norm_cfg'] = self.part
        return out


class NumpyNumber(DetNASSpace):
    def configure(self, cfg, arch):
        out = super().configure(cfg, arch)
        out['model']['backbone']['out_indices'] = [np.int64(1)]
        return out


class OneNet(DetNASSpace):
    def configure(self, cfg, arch):
        self.validate(arch)
        return super().configure(cfg, [0] * self.num_blocks)


class AnyMember(DetNASSpace):
    def configure(self, cfg, arch):
        return dict(model=dict(backbone=dict(type='X', genes=list(arch.genes))))


class SomeNone(DetNASSpace):
    def configure(self, cfg, arch):
        return super().configure(cfg, arch) if arch.genes[0] else None


class Unsteady(DetNASSpace):
    calls = 0

    def configure(self, cfg, arch):
        self.calls += 1
        out = super().configure(cfg, arch)
        out['model']['backbone']['frozen_stages'] = self.calls
        return out


class NeedsModel(DetNASSpace):
    def configure(self, cfg, arch):
        return dict(cfg, model=dict(cfg['model'], backbone=super().configure({}, arch)['model']['backbone']))


@pytest.mark.parametrize(
    ('kind', 'match'),
    [
        (
            NeedsModel,
            r"configure raised KeyError\('model'\) for an empty config; give the config of your search as cfg",
        ),
        (InPlace, 'configure changed the config that it was given'),
        (SharedPart, r'model.backbone.norm_cfg of the config of .* is shared with another config'),
        (NumpyNumber, r'configure gave .*1.* \(int64\) at model.backbone.out_indices.0'),
        (OneNet, 'have the same config, so one net would be evaluated twice'),
        (AnyMember, 'configure must raise a ValueError for architectures that are no members'),
        (SomeNone, 'configure gave None for .*a dict with a model is needed'),
        (Unsteady, 'configure gave .* and then .* for'),
    ],
)
def test_spaces_that_configure_wrongly_are_caught(kind, match):
    with pytest.raises(AssertionError, match=match):
        check_search_space(kind(TINY))


class StaleNeck(DetNASSpace):
    def configure(self, cfg, arch):
        out = super().configure(cfg, arch)
        out['model']['neck']['in_channels'] = [64, 128, 255]
        return out


class NoSuchType(DetNASSpace):
    def configure(self, cfg, arch):
        out = super().configure(cfg, arch)
        out['model']['backbone']['type'] = 'NoSuchNet'
        return out


class WithoutData(DetNASSpace):
    def configure(self, cfg, arch):
        return dict(model=super().configure(cfg, arch)['model'])


@pytest.mark.parametrize(
    ('kind', 'match'),
    [
        (DetNASSpace, None),
        (StaleNeck, 'cannot be run: backbone and neck'),
        (NoSuchType, 'cannot be built .*NoSuchNet'),
        (WithoutData, 'configure dropped .*it must keep the config'),
    ],
)
def test_whole_configs_are_built_and_run(kind, match):
    """Given the config of a search, as nested dicts or as mmengine reads it; neither is changed."""
    pytest.importorskip('torch')
    from mmengine.config import Config

    cfg = Config.fromfile(ROOT / 'configs/digits/detnas-digits_net_retinanet.py')
    before, plain = cfg.to_dict(), cfg.to_dict()
    space = kind(dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1)))
    for given in (cfg, plain):
        with nullcontext() if match is None else pytest.raises(AssertionError, match=match):
            check_search_space(space, cfg=given)
    assert cfg.to_dict() == plain == before


class Shuffled(MAEDetSpace):
    def decode(self, codes):
        return super().decode(codes)[::-1]


class Trusting(MAEDetSpace):
    def contains(self, codes):
        return np.ones(len(codes), bool)


class EagerRows(MAEDetSpace):
    def mutate_codes(self, codes, rng, prob, kinds=None):
        return super().mutate_codes(codes, rng, max(prob, 0.9), kinds)

    def mutate(self, arch, rng, prob):
        return arch if prob == 0 else super().mutate(arch, rng, prob)


class RowsInPlace(MAEDetSpace):
    def mutate_codes(self, codes, rng, prob, kinds=None):
        mutants = super().mutate_codes(codes, rng, prob, kinds)
        codes[:] = mutants
        return mutants


class RowsAstray(MAEDetSpace):
    def mutate_codes(self, codes, rng, prob, kinds=None):
        mutants = super().mutate_codes(codes, rng, prob, kinds)
        return mutants + 1 if kinds == ['out'] else mutants


@pytest.mark.parametrize(
    ('kind', 'match'),
    [
        (Shuffled, 'decode.* must give the architectures back'),
        (Trusting, 'contains.. accepts rows that are no members|must raise a ValueError'),
        (EagerRows, 'mutate_codes with probability 0 changes rows'),
        (RowsInPlace, 'mutate_codes changes the rows that it is given'),
        (RowsAstray, r"mutate_codes of \['out'\] makes rows that are no members"),
    ],
)
def test_broken_spaces_of_arrays_are_caught(kind, match):
    with pytest.raises(AssertionError, match=match):
        check_search_space(kind('authors'))


def test_a_draw_outside_the_space_is_caught():
    with pytest.raises((AssertionError, ValueError), match='allowed are 0|all equal'):
        check_search_space(OutsideSample(TINY))


def test_a_space_that_loads_torch_is_caught(tmp_path, monkeypatch):
    pytest.importorskip('torch')
    (tmp_path / 'heavy_space.py').write_text(
        'import torch\nfrom detnas_mm.systems.detnas import DetNASSpace\n\n\nclass Heavy(DetNASSpace):\n    pass\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    import heavy_space

    with pytest.raises(AssertionError, match='heavy_space must work alone and must not load torch.*torch was loaded'):
        check_search_space(heavy_space.Heavy(TINY))


def test_global_generators_are_left_as_they_were():
    before = np.random.get_state()[1].tolist()
    check_search_space(DetNASSpace(TINY))
    assert np.random.get_state()[1].tolist() == before
