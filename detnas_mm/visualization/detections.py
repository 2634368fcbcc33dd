"""Draws detections and ground truth on images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from mmengine.runner import load_checkpoint

from detnas_mm.models import build_model


def draw_detections(
    images: Sequence[np.ndarray],
    found: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    truth: Sequence[np.ndarray],
    classes: Sequence[str],
    path: str | Path,
    title: str = '',
    min_score: float = 0.3,
    columns: int = 4,
) -> Path:
    """Draws a grid of images with detections in orange (class and score) and ground truth in white.

    Args:
        images: RGB, shape (height, width, 3), uint8.
        found: For each image (boxes, labels, scores): shapes (n, 4) as x1, y1, x2, y2, (n,), (n,).
        truth: For each image the ground-truth boxes, shape (m, 4).
        classes: Names of the classes.
        path: The PNG to write.
        title: A line above the grid.
        min_score: Score threshold of drawn detections.
        columns: Images per row.

    Returns:
        The path.
    """
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(2.6 * columns, 2.6 * rows + 0.5), layout='constrained')
    figure.suptitle(f'{title} (white: truth; orange: detections with score ≥ {min_score})', fontsize=10)
    grid = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axes in grid:
        axes.axis('off')
    for axes, image, (boxes, labels, scores), true_boxes in zip(grid, images, found, truth):
        axes.imshow(image)
        for x1, y1, x2, y2 in true_boxes:
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor='white', lw=1))
        for (x1, y1, x2, y2), label, score in zip(boxes, labels, scores):
            if score < min_score:
                continue
            axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor='#ff9d1e', lw=1.6))
            axes.text(
                x1, max(y1 - 2, 0), f'{classes[label]} {score:.2f}', color='black', fontsize=7, va='bottom',
                bbox=dict(facecolor='#ff9d1e', edgecolor='none', pad=0.6),
            )  # fmt: skip
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    return path


def picture_detections(
    cfg: Any, checkpoint: str | Path, path: str | Path, title: str = '', num_images: int = 12
) -> Path:
    """Runs a detector on the first images of its test set and draws the detections.

    Args:
        cfg: mmengine config of an mmdet detector, with ``model`` and ``test_dataloader``.
        checkpoint: Its weights.
        path: The PNG to write.
        title: A line above the pictures.
        num_images: Number of images to draw.

    Returns:
        The path.
    """
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_model(cfg).eval()
        load_checkpoint(model, str(checkpoint), map_location='cpu')
        dataset = DATASETS.build(cfg.test_dataloader.dataset)
        items = [dataset[i] for i in range(min(num_images, len(dataset)))]
        with torch.no_grad():
            samples = model.test_step(pseudo_collate(items))
    parts = [sample.pred_instances for sample in samples]
    return draw_detections(
        [item['inputs'].numpy().transpose(1, 2, 0)[..., ::-1] for item in items],
        [(p.bboxes.numpy(), p.labels.numpy(), p.scores.numpy()) for p in parts],
        [sample.gt_instances.bboxes.numpy() for sample in samples],
        dataset.metainfo['classes'],
        path,
        title,
    )
