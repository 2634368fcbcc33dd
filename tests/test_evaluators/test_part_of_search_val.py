"""A search that reads some images of the metric's file judges by these, and so does the test of what it exports."""

import json

import pytest
from mmengine.config import Config

from detnas_mm.engine.export import Exporter
from tests import digits
from tests.judge import Judge, unrounded_test

pytestmark = pytest.mark.slow
PATH = '2|2|22|2'


@pytest.fixture(scope='module')
def files(digits_folder, tmp_path_factory):
    """Search-val; the same with boxes in the first 20 images alone; and these 20 images alone."""
    folder = tmp_path_factory.mktemp('json')
    whole = digits_folder / 'annotations' / 'instances_search_val.json'
    data = json.loads(whole.read_text())
    ids = {one['id'] for one in data['images'][:20]}
    data['annotations'] = [one for one in data['annotations'] if one['image_id'] in ids]
    (folder / 'empty.json').write_text(json.dumps(data))
    data['images'] = data['images'][:20]
    (folder / 'few.json').write_text(json.dumps(data))
    return dict(whole=whole, empty=folder / 'empty.json', few=folder / 'few.json')


def judge(supernet, folder, file, **dataset):
    """The evaluator of a search on a file of search-val."""
    changes = {f'dataloader__dataset__{key}': value for key, value in dict(ann_file=str(file), **dataset).items()}
    changes['metric__ann_file'] = str(file)
    return Judge(
        'retinanet', supernet, folder, **{f'search__evaluator__{key}': value for key, value in changes.items()}
    )


@pytest.mark.parametrize(
    'name, part',
    [('whole', dict(indices=20)), ('empty', dict(test_mode=False, filter_cfg=dict(filter_empty_gt=True)))],
    ids=['indices', 'filter_cfg'],
)
def test_it_is_judged_by_what_is_read(retinanet_supernet, files, tmp_path, monkeypatch, name, part):
    few = judge(retinanet_supernet, tmp_path / 'few', files['few'])
    (wanted,) = few.metrics([PATH])
    some = judge(retinanet_supernet, tmp_path / 'some', files[name], **part)
    assert some.metrics([PATH]) == [wanted] and wanted['coco/bbox_mAP'] > 0
    for one, hooks in ((few, 0), (some, 1)):
        with digits.scope():
            found = Exporter(one.job).write(one.path(PATH), tmp_path / f'net{hooks}', {})
        kinds = [hook['type'] for hook in Config.fromfile(found['search_val']).custom_hooks]
        assert kinds.count('detnas_mm.TruthHook') == hooks
        _, score = unrounded_test(found['search_val'], found['checkpoint'], tmp_path, monkeypatch)
        assert score == pytest.approx(wanted['coco/bbox_mAP'], abs=1e-9)
