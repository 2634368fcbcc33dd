"""Content of a Digits picture: digits and clutter over a background.

A picture is first planned (:func:`plan_scene`, :func:`plan_crop`: the places of all pieces) and then rendered
(:func:`render`), so boxes, sources and backgrounds can be checked without reading pixels back.
Every picture has its own random generator, seeded by (seed, split, kind of picture, index): a larger set has the same
first pictures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from detnas_mm.datasets._digits_sources import SPLITS, Background, Photos, Pool

SCENE, CROP = 0, 1

# Heights of digits and clutter, as fractions of the scene's side: 14 to 60 pixels of 96.
MIN_HEIGHT, MAX_HEIGHT = 14 / 96, 60 / 96
# A crop is half a scene wide, and its digit fills it, as objects fill the pictures of ImageNet: 24 to 44 pixels of 48.
# With digits of 14 pixels among them a supernet stays at chance level for 1,500 steps; here it takes 300.
CROP_PART, MIN_CROP_HEIGHT, MAX_CROP_HEIGHT = 0.5, 24 / 96, 44 / 96
MAX_DIGITS, MAX_CLUTTER = 4, 2
MAX_OVERLAP = 0.1  # of the smaller box; ink is added, so overlapping digits stay visible

# Digits are always brighter than the background. With tints that are randomly darker or lighter over bright photographs
# all small nets fail, and the set no longer separates good architectures from bad ones.
CONTRAST, CONTRAST_SPREAD = 130.0, 0.2
NOISE_SD = 8.0
INK = 64  # of 255: weaker ink cannot be seen in the noise and does not count for boxes

CLUTTER_KINDS = ('rolled', 'halves', 'scrambled')
# Clutter more similar to a digit than this (cosine, see ``Likeness``) is discarded: it could be read as a digit.
# 99 % of the digits have a similarity above 0.90 to another digit.
CLUTTER_LIKENESS = 0.85


@dataclass(frozen=True)
class Piece:
    """One digit or one piece of clutter, placed.

    Attributes:
        kind: 'digit', or the kind of clutter: 'rolled', 'halves', 'scrambled'.
        label: The digit's class, None for clutter.
        sources: Indices of the digits it was made from.
        ink: uint8 array (h, w) of 0 to 255, soft edges included.
        corner: (x, y) of ``ink`` in the picture; the edges may lie outside.
        box: (x, y, w, h) of the pixels whose ink is at least ``INK``.
        colour: Colour added at full ink, float32 of shape (3, ), RGB.
    """

    kind: str
    label: int | None
    sources: tuple[int, ...]
    ink: np.ndarray
    corner: tuple[int, int]
    box: tuple[int, int, int, int]
    colour: np.ndarray


@dataclass(frozen=True)
class Plan:
    """A picture before it is rendered; ``size`` is its side in pixels."""

    size: int
    background: Background
    pieces: tuple[Piece, ...]

    @property
    def digits(self) -> tuple[Piece, ...]:
        return tuple(p for p in self.pieces if p.label is not None)

    @property
    def clutter(self) -> tuple[Piece, ...]:
        return tuple(p for p in self.pieces if p.label is None)


def picture_rng(seed: int, split: str, kind: int, index: int) -> np.random.Generator:
    """Returns the generator of one picture; ``kind`` is ``SCENE`` or ``CROP``."""
    return np.random.default_rng([seed, 1 + SPLITS.index(split), kind, index])


def _enlarge(glyph: np.ndarray, side: int) -> np.ndarray:
    """Enlarges an 8×8 glyph of 0 to 16, with one empty pixel around it, to a side×side picture of 0 to 255."""
    padded = np.zeros((10, 10), np.uint8)
    padded[1:9, 1:9] = np.minimum(glyph.astype(np.uint16) * 16, 255)
    return np.asarray(Image.fromarray(padded).resize((side, side), Image.Resampling.BICUBIC))


def ink_box(ink: np.ndarray) -> tuple[int, int, int, int]:
    """Returns the bounding box (x, y, w, h) of values of at least ``INK`` in a 2-D array."""
    rows, cols = ink.max(1) >= INK, ink.max(0) >= INK
    x, y = int(cols.argmax()), int(rows.argmax())
    return x, y, int(len(cols) - cols[::-1].argmax()) - x, int(len(rows) - rows[::-1].argmax()) - y


def _make_clutter(rng: np.random.Generator, pool: Pool, kind: str) -> tuple[tuple[int, ...], np.ndarray]:
    """Makes one piece of clutter: the indices of the digits used, and the 8×8 glyph of 0 to 16."""
    first = pool.draw(rng)
    glyph = pool.images[first]
    if kind == 'rolled':
        # Digits are narrower than they are high: only a shift by half the width cuts through all of them.
        sideways = bool(rng.integers(2))
        return (first,), np.roll(glyph, 4 if sideways else int(rng.integers(3, 6)), axis=int(sideways))
    if kind == 'halves':
        # The lower half goes above the upper one: otherwise half of them look like a digit.
        second = pool.draw(rng, (int(pool.labels[first]) + int(rng.integers(1, 10))) % 10)
        return (first, second), np.concatenate([glyph[4:], pool.images[second][:4]])
    return (first,), rng.permuted(glyph.reshape(-1)).reshape(8, 8)


def _draw_clutter(rng: np.random.Generator, pool: Pool) -> tuple[str, None, tuple[int, ...], np.ndarray]:
    """Draws clutter made of digits: its kind, None as label, sources, and an 8×8 array of 0 to 16."""
    kind = CLUTTER_KINDS[int(rng.integers(len(CLUTTER_KINDS)))]
    for _ in range(200):
        used, glyph = _make_clutter(rng, pool, kind)
        if pool.likeness(glyph) < CLUTTER_LIKENESS:
            return kind, None, tuple(int(pool.sources[i]) for i in used), glyph
    raise RuntimeError(f'200 pieces of {kind} clutter in a row looked like digits: raise CLUTTER_LIKENESS')


def _overlap(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    """Returns the common area of two (x, y, w, h) boxes as a fraction of the smaller one."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0) / min(a[2] * a[3], b[2] * b[3])


def _place(
    rng: np.random.Generator,
    what: tuple[str, int | None, tuple[int, ...], np.ndarray],
    height: int,
    size: int,
    placed: list[Piece],
    outside: float = 0.0,
) -> None:
    """Appends a piece where it overlaps no other; leaves it out if 30 tries find no room.

    ``outside`` is the fraction of it that may lie beyond the picture's border.
    """
    kind, label, sources, glyph = what
    # The ink of these 8 rows is not quite 8/10 of the enlarged picture: measure it, then scale to the height asked.
    side = round(80 * height / ink_box(_enlarge(glyph, 80))[3])
    ink = _enlarge(glyph, side)
    left, top, w, h = ink_box(ink)
    over_x, over_y = int(outside * w), int(outside * h)
    if w > size or h > size:
        return
    tint = rng.uniform(0.6, 1.4, 3)
    contrast = CONTRAST * rng.uniform(1 - CONTRAST_SPREAD, 1 + CONTRAST_SPREAD)
    colour = (tint / tint.mean() * contrast).astype(np.float32)
    for _ in range(30):
        x = int(rng.integers(-over_x, size - w + over_x + 1))
        y = int(rng.integers(-over_y, size - h + over_y + 1))
        if all(_overlap((x, y, w, h), other.box) <= MAX_OVERLAP for other in placed):
            placed.append(Piece(kind, label, sources, ink, (x - left, y - top), (x, y, w, h), colour))
            return


def _draw_height(
    rng: np.random.Generator, scene_size: int, lowest: float = MIN_HEIGHT, tallest: float = MAX_HEIGHT
) -> int:
    """Draws a height in pixels, log-uniform: a digit twice as high is half as frequent."""
    return round(scene_size * math.exp(rng.uniform(math.log(lowest), math.log(tallest))))


def _draw_digit(rng: np.random.Generator, pool: Pool, label: int | None = None) -> tuple:
    index = pool.draw(rng, label)
    return 'digit', int(pool.labels[index]), (int(pool.sources[index]),), pool.images[index]


def plan_scene(
    rng: np.random.Generator,
    pool: Pool,
    photos: Photos,
    split: str,
    size: int,
    heights: tuple[float, float] = (MIN_HEIGHT, MAX_HEIGHT),
) -> Plan:
    """Plans a detection scene: 1 to 4 digits and 0 to 2 pieces of clutter on a square of ``size`` pixels.

    ``heights`` are the lowest and highest height of digits and clutter, as fractions of ``size``.
    """
    background = photos.plan(rng, split, 1.0)
    digits, clutter = int(rng.integers(1, MAX_DIGITS + 1)), int(rng.integers(MAX_CLUTTER + 1))
    placed: list[Piece] = []
    # The tallest first: it finds room only in an empty picture.
    for height in sorted((_draw_height(rng, size, *heights) for _ in range(digits)), reverse=True):
        _place(rng, _draw_digit(rng, pool), height, size, placed)
    for _ in range(clutter):
        _place(rng, _draw_clutter(rng, pool), _draw_height(rng, size, *heights), size, placed)
    return Plan(size, background, tuple(placed))


def plan_crop(rng: np.random.Generator, pool: Pool, photos: Photos, split: str, scene_size: int, label: int) -> Plan:
    """Plans a classification crop: one digit of class ``label``, at times with clutter that reaches in from outside."""
    size = round(scene_size * CROP_PART)
    background = photos.plan(rng, split, CROP_PART)
    clutter = int(rng.integers(2))
    placed: list[Piece] = []
    height = _draw_height(rng, scene_size, MIN_CROP_HEIGHT, MAX_CROP_HEIGHT)
    _place(rng, _draw_digit(rng, pool, label), height, size, placed)
    for _ in range(clutter):
        _place(rng, _draw_clutter(rng, pool), _draw_height(rng, scene_size), size, placed, outside=0.7)
    return Plan(size, background, tuple(placed))


def render(plan: Plan, photos: Photos, split: str, rng: np.random.Generator | None) -> np.ndarray:
    """Renders a picture as uint8 of shape (size, size, 3), RGB; without noise if ``rng`` is None."""
    canvas = photos.cut(plan.background, split, plan.size)
    for piece in plan.pieces:
        x, y = piece.corner
        ink = piece.ink[max(-y, 0) : max(plan.size - y, 0), max(-x, 0) : max(plan.size - x, 0)]
        x, y = max(x, 0), max(y, 0)
        added = (ink.astype(np.float32) / np.float32(255))[..., None] * piece.colour
        canvas[y : y + ink.shape[0], x : x + ink.shape[1]] += added
    if rng is not None:
        canvas += np.float32(NOISE_SD) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.clip(np.rint(canvas), 0, 255).astype(np.uint8)
