"""Data loaded by workers arrive in the process's own memory; data that cannot be sent give an error."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DATASETS
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample

from detnas_mm.errors import DetNASError
from detnas_mm.evaluators.detection.batches import FixedBatches
from detnas_mm.evaluators.detection.worker_loading import load_ahead
from detnas_mm.evaluators.ranks import jointly

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def never_a_wait():
    """Ends a test that would wait for ever."""

    def give_up(*args):
        raise TimeoutError('waited for workers for half a minute')

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@DATASETS.register_module(force=True)
class Scenes:
    """Forty images of 32x32 with boxes and masks, or with a class."""

    metainfo = {'classes': ('a',)}

    def __init__(self, classified=False):
        self.classified = classified

    def __len__(self):
        return 40

    def get_data_info(self, index):
        return {'img_path': f'{index}.png', 'instances': []}

    def __getitem__(self, index):
        sample = DataSample(gt_label=torch.tensor([index])) if self.classified else DetDataSample()
        if not self.classified:
            masks = BitmapMasks(np.full((3, 32, 32), index % 2, dtype=np.uint8), 32, 32)
            boxes = HorizontalBoxes(torch.full((3, 4), float(index)))
            sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(3), masks=masks)
        return {'inputs': torch.full((3, 32, 32), index, dtype=torch.uint8), 'data_samples': sample}


def batches(num_workers, **changes):
    return FixedBatches(dict(dataset=dict(type='Scenes'), batch_size=4, num_workers=num_workers) | changes)


def walked(fixed):
    return [data for _, data in fixed.walk(range(len(fixed)))]


def ours():
    """Returns the numbers of open files of this process and of its pieces of shared memory."""
    return len(os.listdir('/proc/self/fd')) + Path('/proc/self/maps').read_text().count('/dev/shm')


CLASSIFIED = dict(dataset=dict(type='Scenes', classified=True), collate_fn=dict(type='default_collate'))


@pytest.mark.parametrize('changes', [{}, CLASSIFIED], ids=['detection', 'classification'])
def test_what_is_kept_holds_no_open_files_and_no_shared_memory(changes):
    fixed, alone = batches(2, **changes), batches(0, **changes)
    walked(batches(2))  # what the first workers of a process open stays open
    before = ours()
    data = walked(fixed)
    assert len(fixed._cache) == 10
    for _ in range(50):  # threads that spoke to the workers take a moment to end
        if ours() > before:
            time.sleep(0.1)
    assert ours() <= before
    for one, other in zip(data, walked(alone), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one['inputs'], other['inputs'], strict=True))
        for sample, wanted in zip(one['data_samples'], other['data_samples'], strict=True):
            if changes:
                assert torch.equal(sample.gt_label, wanted.gt_label)
                continue
            found, wanted = sample.gt_instances, wanted.gt_instances
            assert torch.equal(found.bboxes.tensor, wanted.bboxes.tensor) and torch.equal(found.labels, wanted.labels)
            assert (found.masks.masks == wanted.masks.masks).all()


@pytest.mark.parametrize('changes', [{}, CLASSIFIED], ids=['detection', 'classification'])
def test_no_shared_memory_is_needed(changes, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError('unable to allocate shared memory')

    for way in ('_share_fd_cpu_', '_share_filename_cpu_', '_new_using_fd_cpu', '_new_using_filename_cpu'):
        monkeypatch.setattr(torch.UntypedStorage, way, full)
    monkeypatch.setattr(torch.storage.TypedStorage, '_new_shared', full)
    assert len(walked(batches(2, **changes))) == 10


@pytest.mark.slow
def test_a_container_with_little_shared_memory():
    signal.alarm(60)  # it imports the stack again
    mount = 'mount -t tmpfs -o size=1m tmpfs /dev/shm'
    if os.geteuid() or subprocess.run(f'unshare -m {mount}', shell=True, capture_output=True).returncode:
        pytest.skip('only root, where it may mount, can have a /dev/shm of its own')
    code = """
import torch
from tests.test_evaluators import test_worker_loading as test
test.Scenes.__getitem__ = lambda self, index: dict(inputs=torch.full((3, 600, 800), index, dtype=torch.uint8))
for changes in ({}, test.CLASSIFIED):
    print(sum(int(image[0, 0, 0]) for data in test.walked(test.batches(2, **changes)) for image in data['inputs']))
"""
    done = subprocess.run(
        ['unshare', '-m', 'bash', '-c', f'{mount} && exec "$0" -c "$1"', sys.executable, code],
        cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ['780', '780'], done.stderr


class Items:
    def __init__(self, make):
        self.make = make

    def __getitem__(self, index):
        return self.make(index)


def test_every_tensor_arrives_as_it_was():
    def make(index):
        image = torch.arange(24.0).view(2, 3, 4) + index
        return [
            image, image.to(torch.bfloat16), image > 3, image.sum(), image[:0], image[0, 0, 0], image.permute(2, 0, 1),
            image.to_sparse(), image.clone().requires_grad_(), torch.complex(image, image).conj(),
            torch.nn.Parameter(image), image.long(),
        ]  # fmt: skip

    found = [item for items in load_ahead(Items(make), [[0, 1], [2]], 2) for item in items]
    for number, item in enumerate(found):
        for one, wanted in zip(item, make(number), strict=True):
            assert type(one) is type(wanted) and one.dtype == wanted.dtype and one.layout == wanted.layout
            assert one.requires_grad == wanted.requires_grad
            one, wanted = one.to_dense(), wanted.to_dense()
            assert torch.equal(one, wanted) and one.stride() == wanted.stride()
    found[0][0] += 1  # it may be written to


def at_9(trouble):
    """Images of 3 MB, more than a pipe holds, so that workers are in the midst of sending; something befalls one."""

    def make(index):
        return torch.full((3, 1000, 1000), index, dtype=torch.uint8), trouble(index) if index == 9 else None

    return Items(make)


def loaded(dataset, between=lambda number: None):
    """The numbers of what is loaded in batches of two by two workers."""
    numbers = []
    for number, items in enumerate(load_ahead(dataset, [[i, i + 1] for i in range(0, 20, 2)], 2)):
        numbers += [int(image[0, 0, 0]) for image, _ in items]
        between(number)
    return numbers


@pytest.mark.parametrize(
    'trouble, said',
    [
        (lambda index: os.kill(os.getpid(), signal.SIGKILL), 'ended by SIGKILL before'),
        (lambda index: os._exit(0), 'ended with exit code 0 before'),
        (lambda index: os.fdopen(os.dup(1)), "cannot send a batch: TypeError: cannot pickle '_io.TextIOWrapper'"),
        (lambda index: lambda: 0, 'cannot send a batch: (AttributeError|PicklingError): '),
    ],
    ids=['dies', 'leaves', 'cannot send a file', 'cannot send a function'],
)
def test_a_worker_that_dies_or_cannot_send_is_an_error_of_one_line(trouble, said):
    assert loaded(at_9(lambda index: 'nothing')) == list(range(20))
    before = ours()
    with pytest.raises(DetNASError, match=said) as caught:
        loaded(at_9(trouble))
    assert '\n' not in str(caught.value)
    assert not multiprocessing.active_children() and ours() <= before


def test_a_worker_that_is_killed_while_it_sends_is_an_error_where_its_batch_is_waited_for():
    done = []

    def kill(number):
        if number == 2:
            time.sleep(0.5)  # both are in the midst of sending
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            done.append(sum(range(1_000_000)))  # what else the job computes is not interrupted

    with pytest.raises(DetNASError, match='ended by SIGKILL before its work was done'):
        loaded(at_9(lambda index: None), kill)
    assert done


def test_a_worker_without_memory_to_send_is_an_error(monkeypatch):
    def out_of_memory(*args):
        raise MemoryError('no room to send')

    monkeypatch.setattr(Connection, 'send_bytes', out_of_memory)
    with pytest.raises(DetNASError, match='ended with exit code 1'):
        loaded(at_9(lambda index: None))


@pytest.mark.parametrize('error', [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_worker_without_memory_to_load_is_no_failure_of_a_candidate(error):
    def trouble(index):
        raise error

    with pytest.raises(DetNASError, match=r'processes that load images \(2\) ran out of memory: give the job more'):
        jointly(lambda: loaded(at_9(trouble)))


def test_errors_of_a_dataset_keep_their_type_and_traceback():
    with pytest.raises(ZeroDivisionError, match=r'(?s)Original Traceback.*lambda index: 1 / 0'):
        loaded(at_9(lambda index: 1 / 0))


def test_a_worker_that_cannot_be_started_is_an_error(monkeypatch):
    def refuse(process):
        raise BlockingIOError(11, 'Resource temporarily unavailable')

    monkeypatch.setattr(multiprocessing.process.BaseProcess, 'start', refuse)
    before = ours()
    with pytest.raises(DetNASError, match='Process 1 of 2 that load images cannot be started: .*num_workers'):
        loaded(at_9(lambda index: None))
    assert ours() <= before
