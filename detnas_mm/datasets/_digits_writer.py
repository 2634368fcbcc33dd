"""Writes Digits: scenes with COCO annotations, crops in class folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from detnas_mm.datasets import _digits_files as files
from detnas_mm.datasets import _digits_scenes as scenes
from detnas_mm.datasets import _digits_sources as sources
from detnas_mm.files import write_json, write_text

CLASSES = ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
CREDIT = (
    'Digits: the 1,797 handwritten digits of scikit-learn (load_digits), a copy of the test set of the UCI "Optical '
    'Recognition of Handwritten Digits" data by E. Alpaydin and C. Kaynak. Backgrounds: dimmed and cut from china.jpg, '
    'by danielbuechele (flickr.com/photos/danielbuechele/6061409035), and flower.jpg, by vultilion '
    '(flickr.com/photos/vultilion/6056698931), both shipped with scikit-learn under the Creative Commons Attribution '
    '2.0 licence (creativecommons.org/licenses/by/2.0).'
)


def count_pictures(parameters: dict[str, Any]) -> dict[str, int]:
    """Returns the number of pictures by folder."""
    counts = {split: parameters[f'num_{split}'] for split in sources.SPLITS}
    return counts | {f'cls/{split}': parameters[f'num_cls_{split}'] for split in sources.SPLITS}


def write_set(workshop: Path, parameters: dict[str, Any], progress: bool) -> dict[str, Any]:
    """Writes all files into an empty folder; returns the stamp."""
    from sklearn.datasets import load_digits, load_sample_images
    from tqdm import tqdm

    digits, photographs = load_digits(), load_sample_images()
    pools = sources.split_pools(digits.images, digits.target, parameters['seed'])
    names = [Path(name).name for name in photographs.filenames]
    photos = sources.Photos(dict(zip(names, photographs.images, strict=True)))
    (workshop / 'annotations').mkdir(parents=True)
    write_text(workshop / files.CREDITS, CREDIT + '\n')
    counts = count_pictures(parameters)
    with tqdm(total=sum(counts.values()), desc='Digits', unit='pictures', disable=None if progress else True) as bar:
        for split in sources.SPLITS:
            planned = _write_scenes(workshop, pools[split], photos, split, parameters, bar.update)
            annotations = _coco(planned, split, parameters)
            write_json(workshop / 'annotations' / f'instances_{split}.json', annotations, separators=(',', ':'))
            crops = _write_crops(workshop, pools[split], photos, split, parameters, bar.update)
            write_json(workshop / 'annotations' / f'crops_{split}.json', crops, separators=(',', ':'))
    return {
        'format': files.FORMAT,
        'parameters': parameters,
        # Not compared; helps to explain why the digests of two machines differ.
        'made_with': {name: version(name) for name in ('numpy', 'pillow', 'scikit-learn')},
        'folders': {name: files.digest(workshop / name) for name in files.FOLDERS},
    }


def _write_scenes(
    workshop: Path,
    pool: sources.Pool,
    photos: sources.Photos,
    split: str,
    parameters: dict[str, Any],
    tick: Callable[[], Any],
) -> list[scenes.Plan]:
    planned = []
    heights = parameters.get('heights', (scenes.MIN_HEIGHT, scenes.MAX_HEIGHT))
    (workshop / split).mkdir()
    for index in range(parameters[f'num_{split}']):
        rng = scenes.picture_rng(parameters['seed'], split, scenes.SCENE, index)
        plan = scenes.plan_scene(rng, pool, photos, split, parameters['image_size'], heights)
        pixels = scenes.render(plan, photos, split, rng)
        (workshop / split / f'{index:06d}.png').write_bytes(files.encode_png(pixels))
        planned.append(plan)
        tick()
    return planned


def _write_crops(
    workshop: Path,
    pool: sources.Pool,
    photos: sources.Photos,
    split: str,
    parameters: dict[str, Any],
    tick: Callable[[], Any],
) -> list[dict[str, Any]]:
    """Writes ``cls/SPLIT/CLASS/*.png``; returns the sources of each file."""
    made = []
    for name in CLASSES:
        (workshop / 'cls' / split / name).mkdir(parents=True)
    for index in range(parameters[f'num_cls_{split}']):
        label = index % len(CLASSES)
        rng = scenes.picture_rng(parameters['seed'], split, scenes.CROP, index)
        plan = scenes.plan_crop(rng, pool, photos, split, parameters['image_size'], label)
        path = f'cls/{split}/{CLASSES[label]}/{index:06d}.png'
        (workshop / path).write_bytes(files.encode_png(scenes.render(plan, photos, split, rng)))
        (digit,) = plan.digits
        made.append(
            {
                'file_name': path,
                'label': label,
                'source': digit.sources[0],
                'bbox': list(digit.box),
                'background': _describe_background(plan),
                'clutter': _describe_clutter(plan),
            }
        )
        tick()
    return made


def _describe_background(plan: scenes.Plan) -> dict[str, Any]:
    return {'photo': plan.background.photo, 'box': list(plan.background.box)}


def _describe_clutter(plan: scenes.Plan) -> list[dict[str, Any]]:
    return [{'kind': p.kind, 'bbox': list(p.box), 'sources': list(p.sources)} for p in plan.clutter]


def _coco(planned: Iterable[scenes.Plan], split: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Returns the COCO annotations of a split, with the sources of each scene as additional keys."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for index, plan in enumerate(planned):
        images.append(
            {
                'id': index + 1,
                'file_name': f'{index:06d}.png',
                'width': plan.size,
                'height': plan.size,
                'background': _describe_background(plan),
                'clutter': _describe_clutter(plan),
            }
        )
        for piece in plan.digits:
            annotations.append(
                {
                    'id': len(annotations) + 1,
                    'image_id': index + 1,
                    'category_id': CLASSES.index(str(piece.label)) + 1,
                    'bbox': list(piece.box),
                    'area': piece.box[2] * piece.box[3],
                    'iscrowd': 0,
                    'source': piece.sources[0],
                }
            )
    return {
        'info': {
            'description': 'detnas_mm Digits',
            'version': str(files.FORMAT),
            'split': split,
            'parameters': parameters,
            'credit': CREDIT,
        },
        'images': images,
        'annotations': annotations,
        'categories': [{'id': i + 1, 'name': name, 'supercategory': 'digit'} for i, name in enumerate(CLASSES)],
    }
