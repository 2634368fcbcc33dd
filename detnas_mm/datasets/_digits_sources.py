"""Sources of Digits: pools of handwritten digits and tiles of two photographs, disjoint between splits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from detnas_mm.errors import DetNASError

SPLITS = ('train', 'search_val', 'test')
# Of each class's digits. The test pool is larger than the search-val pool since reported numbers come from it.
POOL_SHARES = {'train': 0.6, 'search_val': 0.15, 'test': 0.25}
# Each photograph is cut into 3 rows of 5 tiles. Each split has tiles in every row (sky, middle, ground).
TILE_ROWS, TILE_COLS = 3, 5
MIN_CUT, MAX_CUT = 64, 128  # side of a scene's background, in pixels of the photograph
DIM = (0.3, 0.5)  # range of the factor that darkens backgrounds


class Likeness:
    """Computes the largest cosine between an 8×8 glyph and any digit, shifted sideways by at most a pixel."""

    def __init__(self, images: np.ndarray) -> None:
        padded = np.pad(images, ((0, 0), (0, 0), (1, 1))).astype(np.float64)
        vectors = np.concatenate([padded[:, :, x : x + 8].reshape(-1, 64) for x in range(3)])
        self.vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def __call__(self, glyph: np.ndarray) -> float:
        vector = glyph.reshape(-1).astype(np.float64)
        # Not `@`: BLAS starts threads for it, which takes longer than the product if the cores are busy.
        return float(np.einsum('ij,j->i', self.vectors, vector).max() / np.linalg.norm(vector))


@dataclass(frozen=True)
class Pool:
    """The source digits of one split.

    Attributes:
        images: uint8 array of shape (n, 8, 8), values 0 to 16.
        labels: Classes, shape (n, ).
        sources: Indices into scikit-learn's ``load_digits``, shape (n, ).
        likeness: Similarity of an 8×8 glyph to the digits of all splits, so that clutter is equally hard in each.
    """

    images: np.ndarray
    labels: np.ndarray
    sources: np.ndarray
    likeness: Likeness

    def draw(self, rng: np.random.Generator, label: int | None = None) -> int:
        """Draws the index of a digit of class ``label``; if None, of any class with equal probability."""
        label = int(rng.integers(10)) if label is None else label
        return int(rng.choice(np.flatnonzero(self.labels == label)))


@dataclass(frozen=True)
class Background:
    """A square cut of a photograph: name, (x, y, side) in its pixels, and the factor that darkens it."""

    photo: str
    box: tuple[int, int, int]
    flip: bool
    dim: float


class Photos:
    """scikit-learn's two sample photographs, of which each split uses its own tiles only."""

    def __init__(self, photos: dict[str, np.ndarray]) -> None:
        self.tiles: dict[str, list[tuple[str, int, int, Image.Image]]] = {split: [] for split in SPLITS}
        for name, photo in sorted(photos.items()):
            height, width = photo.shape[0] // TILE_ROWS, photo.shape[1] // TILE_COLS
            for row in range(TILE_ROWS):
                for col in range(TILE_COLS):
                    x, y = col * width, row * height
                    tile = Image.fromarray(np.ascontiguousarray(photo[y : y + height, x : x + width]))
                    self.tiles[self._split(row, col)].append((name, x, y, tile))

    @staticmethod
    def _split(row: int, col: int) -> str:
        if col == (2 * row + 1) % TILE_COLS:
            return 'search_val'
        return 'test' if col == (2 * row + 3) % TILE_COLS else 'train'

    def plan(self, rng: np.random.Generator, split: str, part: float) -> Background:
        """Draws a cut from the split's tiles; ``part`` is the picture's side divided by a scene's."""
        name, x, y, tile = self.tiles[split][int(rng.integers(len(self.tiles[split])))]
        side = round(part * rng.uniform(MIN_CUT, MAX_CUT))
        x += int(rng.integers(tile.width - side + 1))
        y += int(rng.integers(tile.height - side + 1))
        return Background(name, (x, y, side), bool(rng.integers(2)), float(rng.uniform(*DIM)))

    def cut(self, background: Background, split: str, size: int) -> np.ndarray:
        """Cuts and darkens the background, float32 of shape (size, size, 3), 0 to 255."""
        x, y, side = background.box
        for name, left, top, tile in self.tiles[split]:
            inside = 0 <= x - left <= tile.width - side and 0 <= y - top <= tile.height - side
            if name == background.photo and inside:
                # From the tile, not the photograph: resampling reads beyond the box, maybe into another split.
                box = (x - left, y - top, x - left + side, y - top + side)
                pixels = np.asarray(tile.resize((size, size), Image.Resampling.BICUBIC, box=box), np.float32)
                return (pixels[:, ::-1] if background.flip else pixels) * np.float32(background.dim)
        raise DetNASError(f'{background} is not within a tile of split {split!r}: draw it with plan()')


def split_pools(images: np.ndarray, labels: np.ndarray, seed: int) -> dict[str, Pool]:
    """Splits the digits into disjoint pools, class by class.

    Args:
        images: Shape (n, 8, 8), values 0 to 16.
        labels: Shape (n, ), 0 to 9.
        seed: Seed of the random split.
    """
    rng = np.random.default_rng([seed, 0])
    dealt: dict[str, list[np.ndarray]] = {split: [] for split in SPLITS}
    for label in range(10):
        indices = rng.permutation(np.flatnonzero(labels == label))
        first = round(len(indices) * POOL_SHARES['train'])
        second = first + round(len(indices) * POOL_SHARES['search_val'])
        for split, part in zip(SPLITS, np.split(indices, [first, second]), strict=True):
            dealt[split].append(part)
    likeness = Likeness(images)
    pools = {}
    for split, parts in dealt.items():
        indices = np.sort(np.concatenate(parts))
        pools[split] = Pool(images[indices].astype(np.uint8), labels[indices], indices, likeness)
    return pools
