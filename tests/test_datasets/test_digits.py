"""Making Digits: reproducible bytes, detection and repair of damage, helpful errors, the command."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detnas_mm.datasets import _digits_files as files
from detnas_mm.datasets.digits import make_digits

COUNTS = {
    'num_train': 3,
    'num_search_val': 2,
    'num_test': 2,
    'num_cls_train': 10,
    'num_cls_search_val': 10,
    'num_cls_test': 10,
}
TOOL = Path(__file__).parents[2] / 'tools' / 'dataset_converters' / 'make_digits.py'


@pytest.fixture
def own(tmp_path):
    """A small set that a test may spoil, with the call that makes it."""
    lines = []

    def make(**changes):
        return make_digits(tmp_path / 'set', **{**COUNTS, **changes}, progress=False, log=lines.append)

    make()
    return tmp_path / 'set', make, lines


# -- made again -------------------------------------------------------------------------------------------------------


def test_the_same_arguments_give_the_same_bytes(own, tmp_path):
    root, make, _ = own
    first = {name: files.digest(root / name) for name in files.OWN_NAMES}
    stamp = (root / files.STAMP).read_bytes()
    assert make().status == 'reused'
    root.rename(tmp_path / 'elsewhere')
    assert make().status == 'made'
    assert {name: files.digest(root / name) for name in files.OWN_NAMES} == first
    assert (root / files.STAMP).read_bytes() == stamp


def test_more_pictures_leave_the_first_ones_as_they_were(own, tmp_path):
    root, make, _ = own
    make_digits(tmp_path / 'more', **{**COUNTS, 'num_train': 5, 'num_cls_train': 20}, progress=False)
    for path in root.rglob('*.png'):
        assert path.read_bytes() == (tmp_path / 'more' / path.relative_to(root)).read_bytes()


def test_another_seed_gives_other_pictures_and_other_pools(own):
    root, make, _ = own

    def look():
        coco = json.loads((root / 'annotations' / 'instances_train.json').read_text())
        return files.digest(root / 'train'), {a['source'] for a in coco['annotations']}

    pictures, used = look()
    assert make(seed=1, overwrite=True).status == 'remade'
    assert look()[0] != pictures and look()[1] != used


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (lambda root: (root / 'train' / '000001.png').unlink(), 'train/ holds 2 files instead of 3'),
        (lambda root: os.truncate(root / 'test' / '000000.png', 100), 'files in test/'),
        (lambda root: (root / 'cls' / 'train' / '3' / 'x.png').write_bytes(b''), 'cls/ holds 31 files instead of 30'),
        (lambda root: (root / 'annotations' / 'instances_test.json').write_text('{}'), 'files in annotations/'),
        (lambda root: (root / files.STAMP).write_text('{"form'), 'unreadable'),
        (lambda root: (root / files.STAMP).unlink(), 'digits.json is missing'),
        (lambda root: files.write_stamp(root, {**files.read_stamp(root), 'complete': False}), 'never finished'),
        (lambda root: files.write_stamp(root, {**files.read_stamp(root), 'format': 0}), 'format 0'),
    ],
)
def test_damage_is_found_said_and_repaired(own, spoil, said):
    root, make, lines = own
    good = {name: files.digest(root / name) for name in files.FOLDERS}
    spoil(root)
    summary = make()
    assert summary.status == 'remade' and said in summary.reason and said in lines[0] and said in str(summary)
    assert {name: files.digest(root / name) for name in files.FOLDERS} == good
    assert make().status == 'reused'
    assert sorted(p.name for p in root.iterdir()) == sorted([*files.OWN_NAMES, files.STAMP])


def test_a_flipped_byte_is_found(own):
    root, make, _ = own
    path = root / 'search_val' / '000001.png'
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert 'files in search_val/' in make().reason


def test_what_a_killed_process_left_is_cleared(own):
    root, make, _ = own
    (root / files.WORKSHOP / 'train').mkdir(parents=True)
    (root / 'train' / '000000.png').unlink()
    make()
    assert not (root / files.WORKSHOP).exists()


def test_a_failure_leaves_the_old_set(own, monkeypatch):
    root, make, _ = own
    stamp = (root / files.STAMP).read_bytes()

    def fail(pixels):
        raise OSError('disk full')

    monkeypatch.setattr(files, 'encode_png', fail)
    with pytest.raises(OSError, match='disk full'):
        make(seed=5, overwrite=True)
    assert (root / files.STAMP).read_bytes() == stamp
    monkeypatch.undo()
    assert make().status == 'reused'


def test_files_of_others_stay(own):
    root, make, _ = own
    (root / 'notes.txt').write_text('mine')
    (root / 'train' / '000000.png').unlink()
    assert make().status == 'remade'
    assert (root / 'notes.txt').read_text() == 'mine'


def test_two_processes_at_once_make_it_once(tmp_path):
    code = (
        'import sys; from detnas_mm.datasets.digits import make_digits; '
        'print(make_digits(sys.argv[1], num_train=60, num_search_val=1, num_test=1, num_cls_train=10, '
        'num_cls_search_val=10, num_cls_test=10).status)'
    )
    command = [sys.executable, '-c', code, str(tmp_path / 'set')]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert sorted(p.communicate(timeout=120)[0].strip() for p in running) == ['made', 'reused']


# -- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('argument', 'value'),
    [
        ('image_size', 20),
        ('image_size', 5000),
        ('num_train', -1),
        ('num_test', 0),
        ('num_search_val', 10**9),
        ('num_cls_train', 9),
        ('num_train', 1.5),
        ('num_train', True),
        ('seed', -1),
        ('seed', None),
    ],
)
def test_bad_values_are_named_with_what_is_allowed(tmp_path, argument, value):
    with pytest.raises(ValueError, match=rf'{argument}={value!r} is not allowed; give a whole number from \d'):
        make_digits(tmp_path / 'set', **{argument: value})
    assert not (tmp_path / 'set').exists()


@pytest.mark.parametrize('heights', [(0.5, 0.2), (0.02, 0.5), (0.1, 1.0), (0.3,), 0.3, ('a', 'b'), (float('nan'), 0.5)])
def test_heights_of_digits_that_cannot_be_are_refused(tmp_path, heights):
    with pytest.raises(ValueError, match=r'heights=.* is not allowed; give the lowest and highest height'):
        make_digits(tmp_path / 'set', heights=heights)
    assert not (tmp_path / 'set').exists()


def test_digits_are_as_high_as_asked(own, tmp_path):
    root, make, _ = own
    with pytest.raises(ValueError, match=r'heights=None instead of \[0.1, 0.2\]'):
        make(heights=(0.1, 0.2))
    make_digits(tmp_path / 'low', **{**COUNTS, 'num_train': 20}, heights=(0.1, 0.2), progress=False)
    with pytest.raises(ValueError, match=r'heights=\[0.1, 0.2\] instead of None'):
        make_digits(tmp_path / 'low', **{**COUNTS, 'num_train': 20}, progress=False)
    found = json.loads((tmp_path / 'low' / 'annotations' / 'instances_train.json').read_text())
    heights = [annotation['bbox'][3] for annotation in found['annotations']]
    assert len(heights) >= 20 and min(heights) >= 8 and max(heights) <= 21  # rounded, and soft edges


def test_another_set_is_not_replaced_unasked(own):
    root, make, _ = own
    with pytest.raises(ValueError, match='num_train=3 instead of 4.*--overwrite'):
        make(num_train=4)
    assert make().status == 'reused'
    summary = make(num_train=4, overwrite=True)
    assert summary.status == 'remade' and 'num_train=3 instead of 4' in summary.reason
    assert make(num_train=4, overwrite=True).status == 'reused'


def test_somebody_elses_folder_is_not_replaced(tmp_path):
    (tmp_path / 'train').mkdir()
    (tmp_path / 'train' / 'mine.png').write_text('mine')
    with pytest.raises(ValueError, match='not a Digits set.*--overwrite'):
        make_digits(tmp_path)
    assert (tmp_path / 'train' / 'mine.png').exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(ValueError, match='is a file; choose a folder'):
        make_digits(tmp_path / 'file')
    with pytest.raises(ValueError, match='cannot be written.*choose another folder'):
        make_digits(tmp_path / 'file' / 'below')
    if os.geteuid() != 0:  # root writes anywhere
        (tmp_path / 'locked').mkdir(mode=0o500)
        with pytest.raises(ValueError, match='cannot be written'):
            make_digits(tmp_path / 'locked')


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr('shutil.disk_usage', lambda path: type('Usage', (), {'free': 2**20})())
    with pytest.raises(ValueError, match='has 1 MiB free, but the set needs [34][0-9][0-9] MiB;'):
        make_digits(tmp_path / 'set')
    assert not list((tmp_path / 'set').iterdir())


# -- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def tool():
    spec = importlib.util.spec_from_file_location('make_digits_tool', TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command(tool, tmp_path, capsys):
    options = [f'--{name.replace("_", "-")}={value}' for name, value in COUNTS.items()]
    assert tool.main([str(tmp_path / 'set'), *options]) == 0
    assert 'Digits made in' in capsys.readouterr().out
    assert tool.main([str(tmp_path / 'set'), *options, '--no-progress']) == 0
    assert 'Digits reused in' in capsys.readouterr().out
    assert tool.main([str(tmp_path / 'set'), '--image-size=3']) == 2
    assert 'image_size=3 is not allowed' in capsys.readouterr().err


def test_its_help_teaches(tool, capsys):
    with pytest.raises(SystemExit) as stop:
        tool.main(['--help'])
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for word in ('search_val', 'instances_SPLIT.json', 'Examples', '--image-size', '(default: 4000)'):
        assert word in text


def test_importing_it_is_light():
    code = (
        'import sys, detnas_mm.datasets.digits; print([m for m in ("torch", "sklearn", "mmdet") if m in sys.modules])'
    )
    out = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == '[]'
