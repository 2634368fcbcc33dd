"""The search-validation splits: what is drawn, what is written, what is refused."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm.datasets import splits

TOOLS = Path(__file__).parents[2] / 'tools' / 'dataset_converters'


def run(tool, *args):
    env = {**os.environ, 'PYTHONPATH': os.pathsep.join([str(TOOLS.parents[1]), os.environ.get('PYTHONPATH', '')])}
    command = [sys.executable, str(TOOLS / tool), *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.fixture
def coco_file(tmp_path):
    data = dict(
        info=dict(year=2017),
        licenses=[dict(id=1)],
        images=[dict(id=7 * i, file_name=f'{i}.jpg', width=40, height=30) for i in range(40)],
        annotations=[dict(id=i, image_id=7 * (i % 40), category_id=1, bbox=[0, 0, 9, 9]) for i in range(100)],
        categories=[dict(id=1, name='cat')],
    )
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(data))
    return path


def next_config_exists(text):
    (name,) = re.findall(r'configs/\S+\.py', text)
    return (TOOLS.parents[1] / name).is_file()


# -- the draw -----------------------------------------------------------------------------------------------------


def test_draw_depends_on_seed_and_names_alone():
    names = [f'image{i}' for i in range(200)]
    drawn = splits.draw(names, 20, seed=0)
    assert len(drawn) == 20 and drawn < set(names)
    assert drawn == splits.draw(reversed(names), 20, seed=0)
    assert drawn != splits.draw(names, 20, seed=1)


def test_draw_is_the_same_for_ever():
    # A published split must not change with a release of Python, numpy or this package.
    assert splits.draw(map(str, range(100)), 3, seed=0) == {'15', '46', '87'}


def test_draw_is_uniform():
    times = dict.fromkeys(range(10), 0)
    for seed in range(2000):
        for name in splits.draw(map(str, range(10)), 3, seed):
            times[int(name)] += 1
    # 600 expected, standard deviation 20
    assert all(500 < t < 700 for t in times.values()), times


@pytest.mark.parametrize('count', [0, -1, 10, 11])
def test_draw_refuses_a_count_that_does_not_fit(count):
    with pytest.raises(ValueError, match='between 1 and 9'):
        splits.draw(map(str, range(10)), count, 0)


def test_draw_refuses_doubles():
    with pytest.raises(ValueError, match="more than once, such as \\['b'\\]"):
        splits.draw(['a', 'b', 'b'], 1, 0)


# -- COCO ---------------------------------------------------------------------------------------------------------


def test_coco_parts_are_disjoint_and_complete(coco_file):
    before = json.loads(coco_file.read_text())
    train, val = splits.split_coco(coco_file, 10, seed=3)
    train_ids, val_ids = ({i['id'] for i in part['images']} for part in (train, val))
    assert len(val_ids) == 10 and len(train_ids) == 30 and not train_ids & val_ids
    for part, ids in ((train, train_ids), (val, val_ids)):
        own = [dict(a, area=81, iscrowd=0) for a in before['annotations'] if a['image_id'] in ids]  # filled in
        assert part['annotations'] == own
        assert part['categories'] == before['categories'] and part['licenses'] == before['licenses']
        assert part['info']['year'] == 2017
        assert part['info']['detnas_split'].items() >= dict(source='instances.json', drawn=10, seed=3).items()


@pytest.mark.parametrize(
    ('content', 'match'),
    [
        ('no json', 'is not JSON'),
        ('[]', "with lists .*, but lacks \\['images', 'annotations', 'categories'\\]"),
        ('{"images": [], "categories": []}', "with lists .*, but lacks \\['annotations'\\]"),
        ('{"images": [{}], "annotations": [], "categories": []}', 'no id'),
        (
            json.dumps(
                dict(
                    images=[dict(id=1, file_name='a', width=2)],
                    annotations=[dict(id=5, image_id=2, category_id=1, bbox=[0, 0, 1, 'x'])],
                    categories=[dict(id=1, name='a')],
                )
            ),
            r'bad.json: image 1 has no height in pixels \(1 of 1 images\); annotation 5 has an image_id that is not in '
            r"images: image_id 2 .*; annotation 5 has no bbox of four finite numbers: bbox \[0, 0, 1, 'x'\] \(1 of 1",
        ),
    ],
)
def test_coco_refuses_what_is_no_annotation_file(tmp_path, content, match):
    path = tmp_path / 'bad.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=match):
        splits.split_coco(path, 1, 0)


def test_a_picture_under_several_ids_goes_to_one_part(coco_file):
    """As merged exports list it; what is drawn of the other pictures does not change."""
    data = json.loads(coco_file.read_text())
    plain = splits.split_coco(coco_file, 10, seed=0)
    data['images'] += [dict(one, id=one['id'] + 1000, file_name=f'./{one["file_name"]}') for one in data['images'][:30]]
    data['images'].reverse()
    data['annotations'] += [
        dict(one, id=one['id'] + 1000, image_id=one['image_id'] + 1000)
        for one in data['annotations']
        if one['image_id'] < 210
    ]
    coco_file.write_text(json.dumps(data))
    parts = splits.split_coco(coco_file, 10, seed=0)
    files = [{os.path.normpath(one['file_name']) for one in part['images']} for part in parts]
    assert files == [{one['file_name'] for one in part['images']} for part in plain]
    assert sum(len(part['images']) for part in parts) == 70
    for part in parts:
        ids = {one['id'] for one in part['images']}
        assert part['annotations'] and all(one['image_id'] in ids for one in part['annotations'])


def test_split_coco_program(coco_file, tmp_path):
    done = run('split_coco.py', coco_file, '--count', 8)
    assert done.returncode == 0, done.stderr
    assert '32 images' in done.stdout and '8 images' in done.stdout and next_config_exists(done.stdout)
    val = tmp_path / 'detnas_search_val.json'
    assert len(json.loads(val.read_text())['images']) == 8
    first = val.read_bytes()

    again = run('split_coco.py', coco_file, '--count', 8)
    assert again.returncode == 0 and again.stdout.count('(unchanged)') == 2

    other = run('split_coco.py', coco_file, '--count', 8, '--seed', 1)
    assert other.returncode == 1 and '--overwrite' in other.stderr and 'Traceback' not in other.stderr
    assert val.read_bytes() == first
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'detnas_search_val.json', 'detnas_train.json', 'instances.json',
    ]  # fmt: skip

    forced = run('split_coco.py', coco_file, '--count', 8, '--seed', 1, '--overwrite')
    assert forced.returncode == 0 and val.read_bytes() != first


def test_split_coco_program_writes_halves_under_other_names(coco_file, tmp_path):
    done = run('split_coco.py', coco_file, '--count', 20, '--names', 'weights', 'alpha')
    assert done.returncode == 0, done.stderr
    parts = [json.loads((tmp_path / f'{name}.json').read_text()) for name in ('weights', 'alpha')]
    assert [len(part['images']) for part in parts] == [20, 20]
    assert not (tmp_path / 'detnas_train.json').exists()
    for names in (['weights'], ['a', 'a']):
        refused = run('split_coco.py', coco_file, '--names', *names)
        assert refused.returncode == 2 and 'give 2 different names' in refused.stderr


def test_split_coco_program_takes_out_the_images_of_another_file(coco_file, tmp_path):
    """As val2014 without minival, which is val2017."""
    whole = json.loads(coco_file.read_text())
    minival = tmp_path / 'minival.json'
    taken = [dict(one, file_name=f'renamed_{one["id"]}.jpg') for one in whole['images'][5:9]]
    minival.write_text(json.dumps(dict(whole, images=taken, annotations=[])))
    done = run('split_coco.py', coco_file, '--without', minival)
    assert done.returncode == 0, done.stderr
    left = json.loads((tmp_path / 'instances_without_minival.json').read_text())
    assert left['images'] == whole['images'][:5] + whole['images'][9:]
    ids = {one['id'] for one in left['images']}
    assert {one['image_id'] for one in left['annotations']} <= ids
    assert len(left['annotations']) == sum(one['image_id'] in ids for one in whole['annotations'])
    minival.write_text(json.dumps(dict(whole, images=[dict(taken[0], id=10**9)], annotations=[])))
    nothing = run('split_coco.py', coco_file, '--without', minival)
    assert nothing.returncode == 1 and '0 of the 40 images' in nothing.stderr


def test_split_coco_program_names_a_missing_file(tmp_path):
    done = run('split_coco.py', tmp_path / 'absent.json')
    assert done.returncode == 1 and 'absent.json' in done.stderr and 'Traceback' not in done.stderr


# -- VOC ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def voc(tmp_path):
    for year, number in (('2007', 12), ('2012', 30)):
        ids = [f'{year}_{i:06d}' for i in range(number)]
        for folder in ('ImageSets/Main', 'Annotations'):
            (tmp_path / f'VOC{year}' / folder).mkdir(parents=True)
        (tmp_path / f'VOC{year}' / 'ImageSets/Main/trainval.txt').write_text('\n'.join(ids) + '\n')
        for i in ids:
            (tmp_path / f'VOC{year}' / 'Annotations' / f'{i}.xml').write_text('<annotation/>')
    return tmp_path


def test_split_voc_program(voc):
    done = run('split_voc.py', voc, '--count', 14)
    assert done.returncode == 0, done.stderr
    drawn = 0
    for year in ('2007', '2012'):
        folder = voc / f'VOC{year}' / 'ImageSets/Main'
        lists = {stem: (folder / f'{stem}.txt').read_text().split() for stem in ('detnas_train', 'detnas_search_val')}
        everything = (folder / 'trainval.txt').read_text().split()
        assert sorted(lists['detnas_train'] + lists['detnas_search_val']) == everything
        drawn += len(lists['detnas_search_val'])
        assert f'{len(lists["detnas_search_val"])} images' in done.stdout
    assert drawn == 14 and next_config_exists(done.stdout)


def test_voc_refuses_class_lists_and_missing_lists(voc):
    (voc / 'VOC2007/ImageSets/Main/cat_trainval.txt').write_text('2007_000000 -1\n2007_000001  1\n')
    with pytest.raises(ValueError, match="no file in VOC2007/Annotations, such as \\['2007_000000 -1', "):
        splits.split_voc(voc, ['2007'], 'cat_trainval', 1, 0)
    with pytest.raises(FileNotFoundError, match='nothing.txt'):
        splits.split_voc(voc, ['2007'], 'nothing', 1, 0)
    with pytest.raises(ValueError, match='has no image in detnas_search_val'):
        for seed in range(50):  # one image over two years: one of the years goes without
            splits.split_voc(voc, ['2007', '2012'], 'trainval', 1, seed)


# -- ImageNet -----------------------------------------------------------------------------------------------------


@pytest.fixture
def imagenet(tmp_path):
    for number, name in enumerate(['n02', 'n01', 'n03']):
        (tmp_path / 'train' / name / 'deeper').mkdir(parents=True)
        for i in range(4 + number):
            (tmp_path / 'train' / name / f'{name}_{i}.JPEG').touch()
        (tmp_path / 'train' / name / 'deeper' / 'x.png').touch()
        (tmp_path / 'train' / name / 'notes.txt').touch()
    return tmp_path


def test_split_imagenet_program(imagenet):
    done = run('split_imagenet.py', imagenet, '--count', 6)
    assert done.returncode == 0, done.stderr
    train, val = ((imagenet / 'meta' / f'detnas_{x}.txt').read_text().splitlines() for x in ('train', 'search_val'))
    assert len(val) == 6 and len(train) == 12 and not set(train) & set(val) and next_config_exists(done.stdout)
    labels = dict(line.rsplit(' ', 1) for line in train + val)
    assert len(labels) == 18
    for path, label in labels.items():
        assert label == str(['n01', 'n02', 'n03'].index(path.split('/')[0]))
        assert (imagenet / 'train' / path).is_file()


def test_imagenet_list_and_folders_give_one_draw(imagenet, tmp_path):
    parts = splits.split_imagenet(imagenet / 'train', 5, seed=2)
    listed = tmp_path / 'train.txt'
    listed.write_text('\n'.join(reversed(parts[0] + parts[1])))
    assert splits.split_imagenet(imagenet / 'absent', 5, seed=2, ann_file=listed) == parts


def test_imagenet_refuses_bad_lists_and_empty_folders(tmp_path):
    bad = tmp_path / 'bad.txt'
    bad.write_text('a.jpg 0\nb.jpg\n')
    with pytest.raises(ValueError, match="line 2: 'b.jpg' must be .path label"):
        splits.split_imagenet(tmp_path, 1, 0, bad)
    bad.write_text('a.jpg 0\na.jpg 1\n')
    with pytest.raises(ValueError, match='a.jpg is listed a second time'):
        splits.split_imagenet(tmp_path, 1, 0, bad)
    (tmp_path / 'train').mkdir()
    with pytest.raises(ValueError, match='No images in .*train'):
        splits.split_imagenet(tmp_path / 'train', 1, 0)


def test_imagenet_labels_are_mmpretrains(imagenet):
    datasets = pytest.importorskip('mmpretrain.datasets')
    run('split_imagenet.py', imagenet, '--count', 6)
    walked = datasets.CustomDataset(data_root=str(imagenet), data_prefix='train')
    expected = {Path(s['img_path']).name: s['gt_label'] for s in walked}
    for stem in ('detnas_train', 'detnas_search_val'):
        part = datasets.ImageNet(data_root=str(imagenet), split='train', ann_file=f'meta/{stem}.txt')
        for sample in part:
            name = Path(sample['img_path']).name
            assert Path(sample['img_path']).is_file()
            assert name == 'x.png' or sample['gt_label'] == expected[name]


# -- writing ------------------------------------------------------------------------------------------------------


def test_write_files_all_or_nothing(tmp_path):
    old, new = tmp_path / 'a.txt', tmp_path / 'deep' / 'b.txt'
    old.write_bytes(b'old')
    with pytest.raises(FileExistsError, match='a.txt'):
        splits.write_files({new: b'new', old: b'other'})
    assert [p.name for p in tmp_path.iterdir()] == ['a.txt'] and old.read_bytes() == b'old'
    assert splits.write_files({new: b'new', old: b'old'}) == {new: 'written', old: 'unchanged'}
    assert splits.write_files({new: b'newer', old: b'old'}, overwrite=True)[new] == 'written'
    assert new.read_bytes() == b'newer'
    assert new.stat().st_mode & 0o777 == 0o666 & ~_umask()


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_the_next_command_can_be_pasted(tmp_path, monkeypatch):
    """It names the folder of the data set where the configs would not find it."""
    monkeypatch.chdir(tmp_path)
    for folder in ('data/VOCdevkit', 'my data'):
        (tmp_path / folder).mkdir(parents=True)
    assert splits.setting('DETNAS_VOC', 'data/VOCdevkit', tmp_path / 'data/VOCdevkit') == ''
    own = splits.setting('DETNAS_VOC', 'data/VOCdevkit', Path('my data'))
    label, command = splits.next_step('detnas/detnas-small_supernet_fpn_voc.py', own).splitlines()
    folder, bash, tool, config, count = shlex.split(command)
    assert folder == f'DETNAS_VOC={tmp_path / "my data"}' and (bash, count) == ('bash', '8')
    assert Path(tool) == TOOLS.parent / 'dist_train.sh' and Path(config).is_file() and '8 GPUs' in label


@pytest.mark.parametrize('tool', ['split_coco.py', 'split_voc.py', 'split_imagenet.py'])
def test_help_teaches(tool):
    done = run(tool, '--help')
    assert done.returncode == 0 and f'python tools/dataset_converters/{tool} data/' in done.stdout
