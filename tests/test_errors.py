"""Expected errors: this package's by their class, those of libraries by the method that raised them."""

import ast
import builtins
import pickle
from pathlib import Path

import numpy as np
import pytest

import detnas_mm
from detnas_mm.checkpoints import load_checkpoint_file
from detnas_mm.cli import one_line_errors
from detnas_mm.compat import StackError
from detnas_mm.cost import CostModel
from detnas_mm.errors import ChecksInput, DetNASError, LibraryError, MissingFileError, expected_errors, library_cause
from detnas_mm.registry import SPACES, build_from
from detnas_mm.search import LedgerError, RandomStrategy, Ranker, UnmeetableConstraint
from detnas_mm.spaces import Architecture, SearchSpace


def test_a_value_error_becomes_an_expected_error_and_others_stay():
    cause = UnicodeDecodeError('utf-8', b'\xff', 0, 1, 'invalid start byte')
    with pytest.raises(DetNASError) as caught, expected_errors():
        raise cause
    assert str(caught.value) == str(cause) and caught.value.__cause__ is cause
    with pytest.raises(DetNASError, match=r'ValueError\(\)'), expected_errors():
        raise ValueError
    for error in (UnmeetableConstraint('none'), KeyError('a'), TypeError('b'), ZeroDivisionError()):
        with pytest.raises(type(error)) as caught, expected_errors():
            raise error
        assert caught.value is error


@pytest.mark.parametrize('kind', [DetNASError, MissingFileError, StackError, LedgerError, UnmeetableConstraint])
def test_expected_errors_are_value_errors_that_pickle(kind):
    error = pickle.loads(pickle.dumps(kind('what to do')))
    assert type(error) is kind and isinstance(error, DetNASError) and isinstance(error, ValueError)
    assert str(error) == 'what to do'


def test_a_missing_file_is_what_python_calls_it(tmp_path):
    with pytest.raises(FileNotFoundError, match='there is no checkpoint') as caught:
        load_checkpoint_file(tmp_path / 'none.pth')
    assert isinstance(caught.value, DetNASError)


class StrangersSpace(SearchSpace):
    size = 2

    def __init__(self, widths=(8, 16)):
        if len(set(widths)) < 2:
            raise ValueError(f'two widths are needed; got {widths}')
        self.widths = tuple(widths)

    def spec(self):
        return dict(widths=self.widths)

    def sample(self, rng):
        return Architecture((int(rng.choice(self.widths)),))

    def mutate(self, arch, rng, prob):
        return self.sample(rng)

    def crossover(self, first, second, rng):
        return first

    def parse(self, value):
        """Reads a width."""
        width = {8: 8, 16: 16}[int(value)]
        if width not in self.widths:
            raise ValueError(f'{value!r} is no width of {self.widths}')
        return Architecture((width,))

    def describe(self, arch):
        return str(arch.genes[0])


class HeirsSpace(StrangersSpace):
    def parse(self, value):
        return super().parse(str(value).strip('w'))


def test_what_a_strangers_space_refuses_is_expected_and_its_bugs_are_not():
    for space in (StrangersSpace([8, 32]), HeirsSpace([8, 32])):
        assert space.parse('8').genes == (8,)
        with pytest.raises(DetNASError, match=r"^'16' is no width of \(8, 32\)$") as caught:
            space.parse('16')
        assert type(caught.value.__cause__) is ValueError
        with pytest.raises(DetNASError, match='invalid literal for int'):
            space.validate('wide')
        with pytest.raises(KeyError):
            space.parse('9')
    assert StrangersSpace.parse.__doc__ == 'Reads a width.'


def test_a_space_without_parse_cannot_be_built():
    with pytest.raises(TypeError, match='abstract'):
        type('NoSpace', (SearchSpace,), {})()


def test_what_a_strangers_constructor_refuses_is_expected_and_its_bugs_are_not():
    assert build_from(SPACES, dict(type=StrangersSpace, widths=[1, 2])).widths == (1, 2)
    with pytest.raises(LibraryError, match=r'^StrangersSpace: two widths are needed; got \[1\]$') as caught:
        build_from(SPACES, dict(type=StrangersSpace, widths=[1]))
    assert library_cause(caught.value) is caught.value.__cause__ is not None
    with pytest.raises(DetNASError, match="StrangersSpace cannot be built with {'widths': 5}: .* is not iterable"):
        build_from(SPACES, dict(type=StrangersSpace, widths=5))
    with pytest.raises(DetNASError, match='cannot be built with .*missing 1 required positional argument'):
        build_from(SPACES, dict(type=lambda width: width))
    with pytest.raises(DetNASError, match='Unknown search space 5. Registered: '):
        build_from(SPACES, dict(type=5))

    def broken():
        return {}['a bug']

    with pytest.raises(KeyError, match='a bug'):
        build_from(SPACES, dict(type=broken))


@pytest.mark.parametrize(('error', 'kind'), [(ValueError('no'), DetNASError), (KeyError('bug'), KeyError)])
def test_setting_up_strangers_parts(error, kind):
    def fail(*args, **kwargs):
        raise error

    others = dict(spec=dict, scores=np.zeros, totals=np.zeros, bounds=tuple)
    for base in (RandomStrategy, Ranker, CostModel, ChecksInput):
        part = type('Part', (base,), dict(setup=fail, observe=fail, **others))()
        for method in (part.setup, part.observe):
            with pytest.raises(kind) as caught:
                method()
            assert (caught.value.__cause__ or caught.value) is error


def test_only_expected_errors_end_in_one_line():
    def refuse():
        raise MissingFileError('there is no such file; name another')

    with pytest.raises(SystemExit, match='^error: there is no such file; name another$'):
        one_line_errors(refuse)
    for bug in (lambda: int('x'), lambda: {}['a'], lambda: np.zeros(2) @ np.zeros(3)):
        with pytest.raises((ValueError, KeyError)) as caught:
            one_line_errors(bug)
        assert not isinstance(caught.value, DetNASError)


#: Caught where they are raised, or faults of the program.
OTHERS = {
    'datasets/_digits_scenes.py': {'RuntimeError'},
    'datasets/digits.py': {'PermissionError'},
    'datasets/splits.py': {'FileExistsError'},
    'engine/seeding.py': {'AttributeError'},
    'files.py': {'BlockingIOError', 'IsADirectoryError'},
    'options.py': {'ValueError'},
    'search/ledger.py': {'ValueError'},
    'search/ledger_file.py': {'ValueError'},
    'search/record.py': {'ValueError'},
    'systems/detnas/__init__.py': {'AttributeError'},
    'systems/mae_det/__init__.py': {'AttributeError'},
    'systems/nats/__init__.py': {'AttributeError'},
    'systems/sm_nas/__init__.py': {'AttributeError'},
}


def test_what_the_package_refuses_is_an_expected_error():
    """Built-in errors would be shown to users as tracebacks."""
    package, found = Path(detnas_mm.__file__).parent, {}
    for path in sorted(package.rglob('*.py')):
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            called = node.exc.func if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) else None
            name = called.id if isinstance(called, ast.Name) else ''
            if hasattr(builtins, name) and name not in ('SystemExit', 'AssertionError'):
                found.setdefault(str(path.relative_to(package)), set()).add(name)
    assert {name: kinds for name, kinds in found.items() if '.mim' not in name} == OTHERS
