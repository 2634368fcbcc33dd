"""Drawing the search-validation split out of a training set.

DetNAS judges candidates on images that are drawn from the detector's training set and taken out of supernet
training (section 4.1 of the paper: 5,000 of COCO and of VOC; 50,000 of ImageNet for ClsNAS). The draw depends on the
seed and on the names of the images alone: not on their order in the file, nor on a version of Python or numpy.
Standard library only. The programs are ``tools/dataset_converters/split_{coco,voc,imagenet}.py``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from detnas_mm.errors import DetNASError
from detnas_mm.files import replacing

#: File stems of the two parts, the same for all data sets.
TRAIN, SEARCH_VAL = 'detnas_train', 'detnas_search_val'

#: What mmpretrain's ImageNet reads when it walks through class folders.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.ppm', '.bmp', '.pgm', '.tif')


def draw(names: Iterable[str], count: int, seed: int) -> set[str]:
    """Draws names uniformly, without replacement: those whose hash with the seed is smallest.

    Args:
        names: Of all images, in any order.
        count: How many to draw; at least one, and at least one must be left.
        seed: Any integer; another seed, another draw.

    Raises:
        ValueError: If a name comes twice or the count does not fit.
    """
    names = list(names)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise DetNASError(f'{len(twice)} images come more than once, such as {twice[:3]}: correct the list of images.')
    if not 0 < count < len(names):
        raise DetNASError(
            f'Cannot draw {count} of {len(names)} images: --count must lie between 1 and {max(len(names) - 1, 1)}, '
            f'since one image at least must be left for training.'
        )
    return set(sorted(names, key=lambda name: hashlib.sha256(f'{seed}:{name}'.encode()).digest())[:count])


def split_coco(ann_file: str | Path, count: int, seed: int) -> tuple[dict, dict]:
    """Splits a COCO annotation file by images.

    Args:
        ann_file: A COCO json with ``images``, ``annotations`` and ``categories``.
        count: Images to draw for search-validation.
        seed: See :func:`draw`; names are the image ids.

    Returns:
        The remaining training set and the search-validation set, in the order of the file. Everything else in the file
        goes to both; ``info`` says what was drawn.

    Raises:
        ValueError: If the file is no COCO json, or if annotations name images that it does not list.
    """
    try:
        data = json.loads(Path(ann_file).read_bytes())
    except ValueError as error:
        raise DetNASError(f'{ann_file} is not JSON: {error}.') from error
    lacking = [key for key in ('images', 'annotations', 'categories') if not isinstance(_get(data, key), list)]
    if lacking:
        raise DetNASError(f'{ann_file} is no COCO annotation file of a training set: it lacks the lists {lacking}.')
    images, annotations = data['images'], data['annotations']
    try:
        ids = [str(image['id']) for image in images]
        owners = [str(annotation['image_id']) for annotation in annotations]
    except (KeyError, TypeError) as error:
        raise DetNASError(f'{ann_file}: an image has no id, or an annotation no image_id.') from error
    orphans = sorted(set(owners) - set(ids))
    if orphans:
        raise DetNASError(f'{ann_file} has annotations of {len(orphans)} images that it does not list: {orphans[:3]}.')
    drawn = draw(ids, count, seed)

    def part(name: str, is_drawn: bool) -> dict:
        what = dict(part=name, source=Path(ann_file).name, drawn=count, seed=seed)
        return {
            **data,
            'info': {**(data.get('info') or {}), 'detnas_split': what},
            'images': [image for image, i in zip(images, ids, strict=True) if (i in drawn) == is_drawn],
            'annotations': [ann for ann, i in zip(annotations, owners, strict=True) if (i in drawn) == is_drawn],
        }

    return part(TRAIN, False), part(SEARCH_VAL, True)


def split_voc(root: str | Path, years: Sequence[str], source: str, count: int, seed: int) -> dict[Path, list[str]]:
    """Splits VOC image lists; the draw runs over all years together.

    Args:
        root: The ``VOCdevkit`` folder.
        years: Such as ``('2007', '2012')``.
        source: The list to split, such as ``'trainval'``.
        count: Images to draw for search-validation, over all years.
        seed: See :func:`draw`; names are ``VOC2007/000005``.

    Returns:
        Image ids by file to write, two a year: ``VOC<year>/ImageSets/Main/detnas_{train,search_val}.txt``.

    Raises:
        ValueError: If a list is empty, an id has no annotation file, or a year gets no image in one of its parts.
        FileNotFoundError: If a list is not there.
    """
    names = []
    for year in years:
        list_file = Path(root, f'VOC{year}', 'ImageSets', 'Main', f'{source}.txt')
        ids = _read_text(list_file).split()
        if not ids:
            raise DetNASError(f'{list_file} is empty.')
        bare = [i for i in ids if not Path(root, f'VOC{year}', 'Annotations', f'{i}.xml').is_file()]
        if bare:
            raise DetNASError(
                f'{len(bare)} of the {len(ids)} images in {list_file} have no file in VOC{year}/Annotations, such as '
                f'{bare[:3]}. The file must list one id a line; is the data set unpacked in full?'
            )
        names += [f'VOC{year}/{i}' for i in ids]
    drawn = draw(names, count, seed)
    files: dict[Path, list[str]] = {}
    for year in years:
        folder = Path(root, f'VOC{year}', 'ImageSets', 'Main')
        own = [name for name in names if name.startswith(f'VOC{year}/')]
        for stem, is_drawn in ((TRAIN, False), (SEARCH_VAL, True)):
            ids = [name.split('/')[1] for name in own if (name in drawn) == is_drawn]
            if not ids:
                raise DetNASError(f'VOC{year} would have no image in {stem}: choose another --count than {count}.')
            files[folder / f'{stem}.txt'] = ids
    return files


def split_imagenet(
    train_dir: str | Path, count: int, seed: int, ann_file: str | Path | None = None
) -> tuple[list[str], list[str]]:
    """Splits ImageNet's training images.

    Args:
        train_dir: The folder with one folder a class.
        count: Images to draw for search-validation.
        seed: See :func:`draw`; names are paths relative to ``train_dir``.
        ann_file: A list of ``path label`` lines to split instead of walking through the folders.

    Returns:
        ``path label`` lines of the remaining training set and of search-validation, as mmpretrain reads them
        (``ImageNet(data_root=…, split='train', ann_file=…)``). Labels count the class folders in alphabetical order,
        as mmpretrain does.

    Raises:
        ValueError: If there are no images, or a line of ``ann_file`` is no ``path label``.
        FileNotFoundError: If the folder or the file is not there.
    """
    labels: dict[str, str] = {}
    if ann_file is not None:
        for number, line in enumerate(_read_text(Path(ann_file)).splitlines(), 1):
            path, _, label = line.strip().rpartition(' ')
            if not path or not label.isdecimal():
                raise DetNASError(f'{ann_file}, line {number}: {line!r} is not "path label".')
            if path in labels:
                raise DetNASError(f'{ann_file}, line {number}: {path} comes a second time.')
            labels[path] = label
    else:
        classes = sorted(e.name for e in os.scandir(train_dir) if e.is_dir() and not e.name.startswith('.'))
        for number, name in enumerate(classes):
            for folder, _, files in os.walk(Path(train_dir, name)):
                inner = Path(folder).relative_to(train_dir).as_posix()
                labels.update({f'{inner}/{f}': str(number) for f in files if f.lower().endswith(IMAGE_SUFFIXES)})
    if not labels:
        where = ann_file or f'{train_dir} (one folder a class, files ending in {", ".join(IMAGE_SUFFIXES)})'
        raise DetNASError(f'No images in {where}.')
    drawn = draw(labels, count, seed)
    lines = {path: f'{path} {label}' for path, label in sorted(labels.items())}
    return [s for p, s in lines.items() if p not in drawn], [s for p, s in lines.items() if p in drawn]


def write_files(files: Mapping[Path, bytes], overwrite: bool = False) -> dict[Path, str]:
    """Writes files, each in one step, or none at all.

    Args:
        files: Content by path; folders are made.
        overwrite: Replace files whose content differs.

    Returns:
        ``'written'`` or ``'unchanged'`` (it was there with this content) by path.

    Raises:
        FileExistsError: If a file is there with other content and ``overwrite`` is False; nothing is written then.
    """
    state = {path: 'unchanged' if _holds(path, content) else 'written' for path, content in files.items()}
    differing = [str(path) for path, what in state.items() if what == 'written' and path.exists()]
    if differing and not overwrite:
        raise FileExistsError(
            f'{" and ".join(differing)} exist with other content (another seed or count?). Give --overwrite to '
            f'replace them, or write elsewhere.'
        )
    with ExitStack() as drafts:  # all are written before the first takes its place
        for path, content in files.items():
            if state[path] == 'written':
                drafts.enter_context(replacing(path)).write_bytes(content)
    return state


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content


def lines(items: Iterable[str]) -> bytes:
    """One item a line."""
    return ''.join(f'{item}\n' for item in items).encode()


def add_arguments(parser: argparse.ArgumentParser, count: int) -> None:
    """The options that all three programs share."""
    parser.add_argument('--count', type=int, default=count, help='images to draw for search-validation [%(default)s]')
    parser.add_argument('--seed', type=int, default=0, help='another seed, another draw [%(default)s]')
    parser.add_argument('--overwrite', action='store_true', help='replace existing files whose content differs')


def report(run: Callable[[], tuple[Mapping[Path, bytes], Mapping[Path, int], str]], overwrite: bool) -> None:
    """Runs a split, writes its files and prints what became of them; an error ends the program with one line.

    Args:
        run: Returns content by path, image count by path, and the text that says what to do next.
        overwrite: See :func:`write_files`.
    """
    try:
        files, counts, then = run()
        state = write_files(files, overwrite)
    except (OSError, DetNASError) as error:
        sys.exit(f'{Path(sys.argv[0]).name}: {error}')
    for path, what in state.items():
        print(f'{counts[path]:>8,} images  {path}  ({what})')
    print(then)


def _read_text(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise DetNASError(f'{path} is no text file ({error}); a list of images is needed.') from error


def _get(data: Any, key: str) -> Any:
    return data.get(key) if isinstance(data, dict) else None
