import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS
from mmengine.structures import BaseDataElement, InstanceData

from detnas_mm.evaluators.detection.batches import FixedBatches
from detnas_mm.search import LedgerError
from detnas_mm.search.ledger import refuse_if_in_use


@DATASETS.register_module(force=True)
class TenImages:
    """Ten one-pixel images that count how often they are loaded."""

    metainfo = {'classes': ('a',)}

    def __init__(self, loads=None):
        self.loads = loads if loads is not None else []

    def __len__(self):
        return 10

    def get_data_info(self, index):
        return {'img_path': f'/some/where/{index}.png', 'instances': []}

    def __getitem__(self, index):
        self.loads.append(index)
        return {'inputs': torch.full((1, 1, 1), index, dtype=torch.uint8), 'data_samples': BaseDataElement(index=index)}


def make(batch_size=3, **kwargs):
    return FixedBatches(dict(dataset=dict(type='TenImages'), batch_size=batch_size), **kwargs)


def contents(batches):
    return {unit.batch: [int(x) for x in data['inputs']] for unit, data in batches.walk(range(len(batches)))}


def test_order_and_batches_are_fixed():
    batches = make()
    assert contents(batches) == {0: [0, 1, 2], 1: [3, 4, 5], 2: [6, 7, 8], 3: [9]}
    assert len(batches) == 4


def test_images_are_drawn_by_the_seed():
    first = make(num_images=6, seed=0)
    assert contents(first) == contents(make(num_images=6, seed=0))
    assert first.indices != make(num_images=6, seed=1).indices
    assert len(set(first.indices)) == 6
    assert first.fingerprint() != make(num_images=6, seed=1).fingerprint()


@pytest.mark.parametrize('cache_mb, loads', [(1, 11), (0, 31)])
def test_images_are_loaded_once_if_they_fit_the_cache(cache_mb, loads):
    """Except one, which is loaded twice to find out whether the pipeline is random."""
    batches = make(cache_mb=cache_mb)
    walks = [contents(batches) for _ in range(3)]
    assert walks[0] == walks[1] == walks[2]
    assert len(batches.dataset.loads) == loads


def test_masks_count_as_what_the_cache_holds():
    """Of a detector that is trained on masks they are larger than the image."""

    class Masked(TenImages):
        def __getitem__(self, index):
            item = super().__getitem__(index)
            masks = BitmapMasks(np.zeros((4, 300, 300), dtype=np.uint8), 300, 300)
            item['data_samples'] = DetDataSample(gt_instances=InstanceData(masks=masks, labels=torch.zeros(4)))
            return item

    DATASETS.register_module(name='Masked', module=Masked, force=True)
    for cache_mb, loads in ((4, 11), (2.5, 14)):  # 3.4 MB in all; the third batch has no room
        batches = FixedBatches(dict(dataset=dict(type='Masked'), batch_size=3), cache_mb=cache_mb)
        for _ in range(2):
            contents(batches)
        assert len(batches.dataset.loads) == loads


def test_what_a_model_does_to_annotations_does_not_stay():
    batches = make()
    for _ in range(2):
        for _, data in batches.walk(range(4)):
            assert all('pred' not in sample for sample in data['data_samples'])
            data['data_samples'][0].pred = 1


def test_bad_sizes():
    with pytest.raises(ValueError, match='between 1 and 10, the number of images of TenImages; got 11'):
        make(num_images=11)
    with pytest.raises(ValueError, match='batch_size 3 does not divide the 10 images.*such as 2'):
        make(whole_batches=True)
    for number in (6.0, True):
        with pytest.raises(ValueError, match='num_images must be a whole number'):
            make(num_images=number)
    with pytest.raises(ValueError, match='num_workers must be a whole number of at least 0; got -1'):
        FixedBatches(dict(dataset=dict(type='TenImages'), batch_size=3, num_workers=-1))


@DATASETS.register_module(force=True)
class RandomImages(TenImages):
    """Changes its images at random, as augmenting pipelines do; ``strength`` 0 only draws."""

    def __init__(self, strength, pipeline=()):
        super().__init__()
        self.strength = strength

    def __getitem__(self, index):
        item = super().__getitem__(index)
        item['inputs'] += np.uint8(self.strength * np.random.randint(2))
        return item


def test_pipelines_that_change_images_at_random_are_refused():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    with pytest.raises(ValueError, match="changes images at random.*'RandomFlip'"):
        FixedBatches(
            dict(dataset=dict(type='RandomImages', strength=9, pipeline=[dict(type='RandomFlip')]), batch_size=5)
        )
    FixedBatches(dict(dataset=dict(type='RandomImages', strength=0), batch_size=5))
    assert (np.random.get_state()[1] == before).all()


def test_the_fingerprint_follows_pipeline_and_labels():
    class Labelled(TenImages):
        label, ignored = 0, 0

        def __init__(self, pipeline=()):
            super().__init__()

        def get_data_info(self, index):
            box = dict(bbox=[0, 0, 1, 1], bbox_label=self.label, ignore_flag=self.ignored)
            return {'img_path': f'/some/where/{index}.png', 'instances': [box]}

    DATASETS.register_module(name='Labelled', module=Labelled, force=True)

    def fingerprint(*pipeline):
        return FixedBatches(dict(dataset=dict(type='Labelled', pipeline=pipeline), batch_size=5)).fingerprint()

    first = fingerprint(dict(type='Resize', scale=96))
    assert first == fingerprint(dict(type='Resize', scale=96))
    assert first != fingerprint(dict(type='Resize', scale=48))
    Labelled.label = 1
    second = fingerprint(dict(type='Resize', scale=96))
    Labelled.ignored = 1  # difficult in VOC, crowds in COCO
    assert len({first, second, fingerprint(dict(type='Resize', scale=96))}) == 3


def test_the_fingerprint_follows_pipelines_of_wrapped_datasets():
    """As for VOC, with two years."""
    DATASETS.register_module(name='Piped', module=Piped, force=True)

    def fingerprint(scale):
        inner = dict(type='Piped', pipeline=[dict(type='Resize', scale=scale)])
        whole = dict(type='ConcatDataset', datasets=[inner, inner])
        return FixedBatches(dict(dataset=whole, batch_size=5)).fingerprint()

    assert fingerprint(96) == fingerprint(96) != fingerprint(48)


class Piped(BaseDataset):
    """Ten one-pixel images whose pipeline leaves out each other one, for which mmengine takes another at random."""

    def __init__(self, pipeline=()):
        super().__init__(serialize_data=False)

    def load_data_list(self):
        return [dict(number=number) for number in range(10)]

    def prepare_data(self, idx):
        return None if idx % 2 else {'inputs': torch.full((1, 1, 1), idx, dtype=torch.uint8)}


@pytest.mark.parametrize('num_workers', [0, 2])
def test_images_that_the_pipeline_leaves_out_are_replaced_by_the_same_each_time(num_workers):
    DATASETS.register_module(name='Piped', module=Piped, force=True)
    found = []
    for seed in range(3):
        np.random.seed(seed)
        before = np.random.get_state()[1].copy()
        cfg = dict(dataset=dict(type='Piped'), batch_size=5, num_workers=num_workers)
        found.append(contents(FixedBatches(cfg, cache_mb=0)))
        assert (np.random.get_state()[1] == before).all()
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
def test_workers_of_a_killed_search_do_not_keep_its_folder_locked(tmp_path):
    """They would survive for five seconds, long enough for torchrun's restart to fail."""
    path = tmp_path / 'ledger.jsonl'
    code = f"""
from detnas_mm.search import Ledger
from tests.test_evaluators.test_batches import make
ledger = Ledger({str(path)!r}, dict(seed=0))
batches = make(batch_size=1)
batches.num_workers = 2
for _ in batches.walk(range(10)):
    print('ready', flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as search:
        assert search.stdout.readline() == b'ready\n'
        with pytest.raises(LedgerError):
            refuse_if_in_use(path)
        search.kill()
    time.sleep(1)
    refuse_if_in_use(path)
