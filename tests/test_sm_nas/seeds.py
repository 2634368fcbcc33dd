"""Seeds of modular searches, small enough for tests."""

import json

from mmengine.config import Config

FASTER = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
CASCADE = 'mmdet::cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py'
RETINA18 = 'mmdet::retinanet/retinanet_r18_fpn_1x_coco.py'
RETINA50 = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'
YOLOX = 'mmdet::yolox/yolox_s_8xb8-300e_coco.py'


def read(source):
    """Returns a config of mmdet as nested dicts."""
    return Config.fromstring(f'_base_ = {source!r}', '.py').to_dict()


def derived(file, source, text=''):
    """Writes a config that inherits another one and changes what the text says; returns its path as text."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f'_base_ = {source!r}\n{text}\n')
    return str(file)


def first_stage(folder, sources):
    """A folder as the search of a first stage leaves it: best.json, and the configs that it names."""
    entries = []
    for rank, source in enumerate(sources, 1):
        file = folder / 'best' / f'rank{rank}_{rank:012x}.py'
        derived(file, source)
        arch = f'1333x800/net{rank}'
        entries.append(dict(rank=rank, id=f'{rank:012x}', arch=arch, config=str(file.relative_to(folder))))
    best = folder / 'best.json'
    best.write_text(json.dumps(entries))
    return best
