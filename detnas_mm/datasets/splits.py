"""Draws the search-val split out of a training set.

DetNAS evaluates candidates on images that are drawn from the detector's training set and excluded from supernet
training (section 4.1 of the paper: 5,000 of COCO and of VOC; 50,000 of ImageNet for ClsNAS). The draw depends only on
the seed and the names of the images: not on their order in the file, nor on a version of Python or numpy.
Imports no torch. The programs are ``tools/dataset_converters/split_{coco,voc,imagenet}.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from detnas_mm.cli import PACKAGE, typed
from detnas_mm.datasets.coco_json import check_coco, fill_in, same_pictures
from detnas_mm.datasets.voc_folder import check_voc
from detnas_mm.errors import DetNASError
from detnas_mm.files import replacing
from detnas_mm.terminal import doing, managed

#: File stems of the two parts, the same for all data sets.
TRAIN, SEARCH_VAL = 'detnas_train', 'detnas_search_val'

#: Suffixes of images that mmpretrain's ImageNet reads in class folders.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def draw(names: Iterable[str], count: int, seed: int) -> set[str]:
    """Draws names uniformly, without replacement: those whose hash with the seed is smallest.

    Args:
        names: Names of all images, in any order.
        count: How many to draw; at least 1, at most all but one.
        seed: Any integer; different seeds give different draws.

    Raises:
        ValueError: If a name occurs twice or the count does not fit.
    """
    names = list(names)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DetNASError(
            f'Images are listed more than once, such as {twice[:3]} ({len(twice):,} in all): remove the duplicates.'
        )
    if not 0 < count < len(names):
        raise DetNASError(
            f'Cannot draw {count:,} of {len(names):,} images: --count must lie between 1 and '
            f'{max(len(names) - 1, 1):,}, since at least one image must be left for training.'
        )
    return set(sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())[:count])


def without_images(ann_file: str | Path, others: str | Path) -> dict:
    """Removes the images of one COCO file from another, by id, such as val2017's from val2014's.

    Args:
        ann_file: The COCO json to remove images from.
        others: The COCO json with the images to remove; COCO's ids are the same in all years.

    Returns:
        The remaining content, in the order of the file; ``info`` records what was removed.

    Raises:
        ValueError: If mmdet could not read a file, or the files have no image in common, or no image is left.
    """
    data = check_coco(ann_file, lists=('images', 'annotations', 'categories'), area=False)
    out = {image['id'] for image in check_coco(others, area=False)['images']}
    fill_in(data['annotations'])
    images = [image for image in data['images'] if image['id'] not in out]
    common = len(data['images']) - len(images)
    if not common or not images:
        raise DetNASError(
            f'{common:,} of the {len(data["images"]):,} images of {ann_file} are also in {others}; it must be some but '
            f'not all. Give the file of the larger set first.'
        )
    info = data.get('info')
    what = dict(source=Path(ann_file).name, without=Path(others).name, taken_out=common)
    return {
        **data,
        'info': {**(info if isinstance(info, dict) else {}), 'detnas_split': what},
        'images': images,
        'annotations': [one for one in data['annotations'] if one['image_id'] not in out],
    }


def split_coco(ann_file: str | Path, count: int, seed: int) -> tuple[dict, dict]:
    """Splits a COCO annotation file by picture.

    Args:
        ann_file: A COCO json with ``images``, ``annotations`` and ``categories``.
        count: Pictures to draw for search-val. A picture listed under several ids, as in merged exports, is drawn once,
            with all its ids.
        seed: See :func:`draw`; names are the image ids, for a picture with several the lowest.

    Returns:
        The remaining training set and the search-val set, in the order of the file. Annotations without an area get
        that of their box. Everything else in the file goes to both; ``info`` records the draw.

    Raises:
        ValueError: If the file has faults, see :func:`~detnas_mm.datasets.coco_json.check_coco`.
    """
    data = check_coco(ann_file, lists=('images', 'annotations', 'categories'), area=False)
    images, annotations = data['images'], data['annotations']
    fill_in(annotations)
    info = data.get('info')
    pictures = {min(ids): ids for ids in same_pictures(images).values()}  # one id for each picture
    drawn = draw(map(str, pictures), count, seed)
    taken = {one for first, ids in pictures.items() if str(first) in drawn for one in ids}

    def part(name: str, is_drawn: bool) -> dict:
        what = dict(part=name, source=Path(ann_file).name, drawn=count, seed=seed)
        return {
            **data,
            'info': {**(info if isinstance(info, dict) else {}), 'detnas_split': what},
            'images': [image for image in images if (image['id'] in taken) == is_drawn],
            'annotations': [one for one in annotations if (one['image_id'] in taken) == is_drawn],
        }

    return part(TRAIN, False), part(SEARCH_VAL, True)


def split_voc(root: str | Path, years: Sequence[str], source: str, count: int, seed: int) -> dict[Path, list[str]]:
    """Splits VOC image lists; the draw is over all years together.

    Args:
        root: The folder ``VOCdevkit``.
        years: Such as ``('2007', '2012')``.
        source: The list to split, such as ``'trainval'``.
        count: Images to draw for search-val, over all years.
        seed: See :func:`draw`; names are ``VOC2007/000005``.

    Returns:
        Image ids by file to write, two a year: ``VOC<year>/ImageSets/Main/detnas_{train,search_val}.txt``.

    Raises:
        ValueError: If a list is empty, an annotation file is missing or cannot be read, or a year gets no image in one
            of its parts.
        FileNotFoundError: If a list does not exist.
    """
    names = []
    for year in years:
        list_file = Path(root, f'VOC{year}', 'ImageSets', 'Main', f'{source}.txt')
        ids = check_voc(list_file, Path(root, f'VOC{year}'))
        names += [f'VOC{year}/{i}' for i in ids]
    drawn = draw(names, count, seed)
    files: dict[Path, list[str]] = {}
    for year in years:
        folder = Path(root, f'VOC{year}', 'ImageSets', 'Main')
        own = [name for name in names if name.startswith(f'VOC{year}/')]
        for stem, is_drawn in ((TRAIN, False), (SEARCH_VAL, True)):
            ids = [name.split('/')[1] for name in own if (name in drawn) == is_drawn]
            if not ids:
                raise DetNASError(
                    f'With --count {count} VOC{year} has no image in {stem}: choose another --count or --seed.'
                )
            files[folder / f'{stem}.txt'] = ids
    return files


def split_imagenet(
    train_dir: str | Path, count: int, seed: int, ann_file: str | Path | None = None
) -> tuple[list[str], list[str]]:
    """Splits ImageNet's training images.

    Args:
        train_dir: The folder with one folder a class.
        count: Images to draw for search-val.
        seed: See :func:`draw`; names are paths relative to ``train_dir``.
        ann_file: A list of ``path label`` lines to split instead of walking through the folders.

    Returns:
        ``path label`` lines of the remaining training set and of search-val, as mmpretrain reads them
        (``ImageNet(data_root=…, split='train', ann_file=…)``). Labels count the class folders in alphabetical order,
        as mmpretrain does.

    Raises:
        ValueError: If there are no images, or a line of ``ann_file`` is no ``path label``.
        FileNotFoundError: If the folder or the file does not exist.
    """
    labels: dict[str, str] = {}
    if ann_file is not None:
        for number, line in enumerate(_read_text(Path(ann_file)).splitlines(), 1):
            path, _, label = line.strip().rpartition(' ')
            if not path or not label.isdecimal():
                raise DetNASError(
                    f'{ann_file}, line {number}: {line!r} must be "path label", such as "n01440764/a.JPEG 0".'
                )
            if path in labels:
                raise DetNASError(f'{ann_file}, line {number}: {path} is listed a second time; remove one of them.')
            labels[path] = label
    else:
        classes = sorted(e.name for e in os.scandir(train_dir) if e.is_dir() and not e.name.startswith('.'))
        for number, name in enumerate(classes):
            for folder, _, files in os.walk(Path(train_dir, name)):
                inner = Path(folder).relative_to(train_dir).as_posix()
                labels.update({f'{inner}/{f}': str(number) for f in files if f.lower().endswith(IMAGE_SUFFIXES)})
    if not labels:
        where = ann_file or f'{train_dir} (one folder a class, with files ending in {", ".join(IMAGE_SUFFIXES)})'
        raise DetNASError(f'No images in {where}.')
    drawn = draw(labels, count, seed)
    lines = {path: f'{path} {label}' for path, label in sorted(labels.items())}
    return [s for p, s in lines.items() if p not in drawn], [s for p, s in lines.items() if p in drawn]


def write_files(files: Mapping[Path, bytes], overwrite: bool = False) -> dict[Path, str]:
    """Writes several files atomically; none if one of them cannot be replaced.

    Args:
        files: Content by path; missing folders are made.
        overwrite: Replace files whose content differs.

    Returns:
        ``'written'`` or ``'unchanged'`` (existed with this content) by path.

    Raises:
        FileExistsError: If a file exists with other content and ``overwrite`` is False; nothing is written then.
    """
    state = {path: 'unchanged' if _holds(path, content) else 'written' for path, content in files.items()}
    differing = [str(path) for path, what in state.items() if what == 'written' and path.exists()]
    if differing and not overwrite:
        raise FileExistsError(
            f'{" and ".join(differing)} exist with other content (another seed or count?). Use --overwrite to '
            f'replace them, or another folder.'
        )
    with ExitStack() as drafts:  # all are written before the first is moved into place
        for path, content in files.items():
            if state[path] == 'written':
                drafts.enter_context(replacing(path)).write_bytes(content)
    return state


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def lines(items: Iterable[str]) -> bytes:
    """Returns bytes with one item a line."""
    return ''.join(f'{item}\n' for item in items).encode()


def add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """Adds the options that all three programs share."""
    parser.add_argument('--count', type=int, default=count, help='images to draw for search-val [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='seed of the draw [%(default)s]')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files whose content differs')


def setting(variable: str, usual: str, folder: Path) -> str:
    """Returns the environment variable that lets configs find a folder, such as ``'DETNAS_VOC=/a '``; '' if they do.

    Args:
        variable: Name of the variable.
        usual: Folder in which configs look without it.
        folder: Folder of the data set.
    """
    found = folder.resolve() == Path(usual).resolve()
    return '' if found else f'{variable}={shlex.quote(str(folder.absolute()))} '


def next_step(config: str, setting: str) -> str:
    """Returns the command that trains a supernet without the drawn images.

    Args:
        config: Config of the supernet, in ``configs/``.
        setting: Result of :func:`setting`.
    """
    command = typed('dist_train.sh', (PACKAGE / '.mim' / 'configs' / config).resolve(), 8)
    return f'To train a supernet without the drawn images, here on 8 GPUs:\n  {setting}{command}'


def report(run: Callable[[], tuple[Mapping[Path, bytes], Mapping[Path, int], str]], overwrite: bool) -> None:
    """Runs a split, writes its files and prints a line for each; an error ends the program with one line.

    Args:
        run: Returns content by path, number of images by path, and text about the next step.
        overwrite: See :func:`write_files`.
    """
    try:
        with managed(), doing('reading and splitting the lists of images'):
            files, counts, then = run()
            state = write_files(files, overwrite)
    except (OSError, DetNASError) as error:
        sys.exit(f'{Path(sys.argv[0]).name}: {error}')
    for path, what in state.items():
        print(f'{counts[path]:>8,} images  {path}  ({what})')
    if then:
        print(then)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise DetNASError(f'{path} is not a UTF-8 text file ({error}); give a list of images.') from error
