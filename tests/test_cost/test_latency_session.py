"""A session of measuring nets: which failures are of a net, which of the machine, and which are bugs."""

from types import SimpleNamespace

import pytest
import torch

from detnas_mm.latency import session
from detnas_mm.latency.measure import milliseconds
from detnas_mm.latency.whole import write_session

PACE = dict(rounds=2, min_time=0, pause=0)


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """Measures nets that are functions, by name."""

    def measure(**nets):
        names = list(nets)
        listed = [dict(arch=name, key=f'key of {name}', input_size=[8, 8], channels=3, text='') for name in names]
        write_session(tmp_path, listed, device='cpu', threads=torch.get_num_threads(), pace=PACE)
        built = iter(nets.values())
        monkeypatch.setattr(session, 'Inputs', lambda *args, **kwargs: SimpleNamespace(values=[0]))
        monkeypatch.setattr(session, 'load_net', lambda *args: next(built))
        monkeypatch.setattr(session, '_boxes', lambda run, inputs: run(0) and 7)
        steps = []
        return session.measure_session(tmp_path, steps.append), steps

    return measure


def fine(value):
    return True


def raising(error, after=0):
    runs = []

    def run(value):
        runs.append(value)
        if len(runs) > after:
            raise error
        return True

    return run


def test_nets_that_fail_are_left_out_and_the_others_measured(measured):
    result, steps = measured(
        first=fine,
        operator=raising(NotImplementedError("Could not run 'torchvision::nms'")),
        memory=raising(torch.OutOfMemoryError('CUDA out of memory. Tried to allocate')),
        later=raising(RuntimeError('not enough memory: you tried to allocate'), after=3),
        last=fine,
    )
    assert list(result['nets']) == ['key of first', 'key of last']
    assert all(net['boxes'] == 7 and net['ms'] > 0 for net in result['nets'].values())
    assert result['failed'] == {
        'key of operator': "NotImplementedError: Could not run 'torchvision::nms'",
        'key of memory': 'out of memory',
        'key of later': 'out of memory',
    }
    assert steps[0] == 'building and running first at 8x8' and 'measuring last at 8x8' in steps


def test_all_may_fail(measured):
    result, _ = measured(one=raising(ValueError('no')))
    assert result['nets'] == {} and result['failed'] == {'key of one': 'ValueError: no'}


@pytest.mark.parametrize('error', [RuntimeError('CUDA error: device not ready'), OSError('Input/output error')])
@pytest.mark.parametrize('after', [0, 2])
def test_a_machine_that_fails_ends_the_session(measured, error, after):
    with pytest.raises(type(error), match=str(error)):
        measured(one=fine, two=raising(error, after))


def test_a_bug_of_this_package_ends_the_session(measured):
    with pytest.raises(TypeError):
        measured(one=lambda value: milliseconds(object()), two=fine)
