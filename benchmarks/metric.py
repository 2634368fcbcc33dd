#!/usr/bin/env python
"""Times COCO's box metric of this package and the two of mmdet.

  here                    BoxMetric, as evaluators use it: from arrays, by hotcoco
  mmdet CocoMetric        by a JSON file and pycocotools
  mmdet FasterCocoMetric  by a JSON file and faster-coco-eval, if this mmdet has it

All get the same synthetic detections in the form of `process`, in this process and with torch's number of threads.
The values of the first two are compared; all round to the same three decimals.

Example:
  python benchmarks/metric.py                        # 5,000 images, 100 boxes each, 80 classes: 3 minutes
  python benchmarks/metric.py --images 500 --boxes 20 --classes 10
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import add_output, interleave, spread, table, write_json
from mmengine.registry import METRICS, DefaultScope

from detnas_mm.evaluators.detection.metrics import build_metric, compute
from detnas_mm.evaluators.temporary import quiet


def made_up(images: int, boxes: int, classes: int, folder: Path) -> tuple[str, list]:
    """Makes an annotation file of about 7 objects per image, and detections, half of them near objects."""
    rng = np.random.default_rng(0)
    annotations: list[dict[str, Any]] = []
    results = []
    for image in range(images):
        count = int(rng.integers(1, 14))
        corners, sizes = rng.uniform(0, 400, (count, 2)), np.exp(rng.uniform(2, 5.5, (count, 2)))
        labels = rng.integers(0, classes, count)
        for corner, size, label in zip(corners, sizes, labels, strict=True):
            annotations.append(
                dict(
                    id=len(annotations) + 1, image_id=image, category_id=int(label), iscrowd=int(rng.random() < 0.01),
                    bbox=[*corner.tolist(), *size.tolist()], area=float(size.prod()),
                )
            )  # fmt: skip
        chosen = rng.integers(0, count, boxes)
        near = rng.random(boxes) < 0.5
        found = np.concatenate([corners, corners + sizes], 1)[chosen] + rng.normal(0, 6, (boxes, 4))
        found[~near] = np.sort(rng.uniform(0, 500, (int((~near).sum()), 2, 2)), axis=1).reshape(-1, 4)
        guessed = np.where(near, labels[chosen], rng.integers(0, classes, boxes))
        result = dict(img_id=image, bboxes=found.astype(np.float32), labels=guessed)
        result['scores'] = rng.random(boxes, dtype=np.float32)
        results.append((dict(img_id=image, width=640, height=480), result))
    content = dict(
        images=[dict(id=one, width=640, height=480, file_name=f'{one}.jpg') for one in range(images)],
        categories=[dict(id=one, name=str(one)) for one in range(classes)],
        annotations=annotations,
    )
    file = folder / 'instances.json'
    file.write_text(json.dumps(content))
    return str(file), results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--images', type=int, default=5000, help='[%(default)s]')
    parser.add_argument('--boxes', type=int, default=100, help='detections per image [%(default)s]')
    parser.add_argument('--classes', type=int, default=80, help='[%(default)s]')
    parser.add_argument('--rounds', type=int, default=3, help='number of timings [%(default)s]')
    add_output(parser, 'metric.json')
    args = parser.parse_args()

    meta = dict(classes=tuple(map(str, range(args.classes))))
    with tempfile.TemporaryDirectory() as folder, DefaultScope.overwrite_default_scope('mmdet'):
        file, results = made_up(args.images, args.boxes, args.classes, Path(folder))
        metrics = {'here': build_metric(dict(type='CocoMetric', ann_file=file), meta)}
        for name in ('CocoMetric', 'FasterCocoMetric'):
            if METRICS.get(f'mmdet.{name}') is not None:
                metrics[f'mmdet {name}'] = METRICS.build(dict(type=f'mmdet.{name}', ann_file=file))
        values: dict[str, dict[str, float]] = {}

        def run(name: str) -> None:
            with quiet():
                if name == 'here':
                    values[name] = compute(metrics[name], results)
                else:
                    metrics[name].dataset_meta = meta
                    found = metrics[name].compute_metrics(results)
                    values[name] = {f'coco/{key}': value for key, value in found.items()}

        seconds = interleave({name: lambda name=name: run(name) for name in metrics}, args.rounds)
    for name, found in values.items():
        assert {key: round(value, 3) for key, value in values['here'].items()} == found or name == 'here', name
    best = spread(seconds['here'])['median']
    rows = [
        dict(metric=name, seconds=round(spread(times)['median'], 3), ratio=round(spread(times)['median'] / best, 1))
        for name, times in seconds.items()
    ]
    print(table(rows))
    settings = dict(images=args.images, boxes=args.boxes, classes=args.classes)
    write_json(args.out, dict(settings=settings, seconds=seconds, rows=rows))


if __name__ == '__main__':
    main()
