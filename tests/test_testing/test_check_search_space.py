"""The conformance suite of spaces passes good ones (see test_spaces) and names what is wrong with bad ones."""

import numpy as np
import pytest

from detnas_mm.spaces import Architecture
from detnas_mm.systems.detnas import DetNASSpace
from detnas_mm.systems.mae_det import MAEDetSpace
from detnas_mm.testing import check_search_space

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
