"""Structures: residual nets of a stem and super-blocks of bottlenecks as data, in text, dicts or genes.

The genes of an :class:`Architecture` are flat integers, so that many structures form one array: ``(out, kernel,
stride)`` of the stem, then ``(out, kernel, stride, depth, bottleneck)`` of every super-block. The authors' public code
(github.com/alibaba/lightweight-neural-architecture-search) writes the same as lists of dicts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from detnas_mm.errors import DetNASError
from detnas_mm.spaces.architecture import Architecture
from detnas_mm.spaces.images import RGB

#: Genes of the stem and of a super-block, in order.
STEM_GENES = ('out', 'kernel', 'stride')
BLOCK_GENES = ('out', 'kernel', 'stride', 'depth', 'bottleneck')
#: Limits, so that wrong or malicious input is not built or scored for hours.
MAX_WIDTH, MAX_DEPTH, MAX_BLOCKS, MAX_KERNEL = 1 << 16, 1000, 64, 31

_STEM_CLASS, _BLOCK_CLASS, _INNER_CLASS = 'ConvKXBNRELU', 'SuperResK1KXK1', 'ResK1KXK1'
_STEM_KEYS = dict(out='out', kernel='k', stride='s')
_BLOCK_KEYS = dict(out='out', kernel='k', stride='s', depth='L', bottleneck='btn')
_STEM_TEXT = re.compile(r'(\d{1,9})k(\d{1,9})s(\d{1,9})', re.ASCII)
_BLOCK_TEXT = re.compile(r'(\d{1,9})k(\d{1,9})s(\d{1,9})x(\d{1,9})b(\d{1,9})', re.ASCII)

#: Published nets of Sun et al., MAE-DET, ICML 2022, and the initial structure of the authors' search.
PUBLISHED = {
    'maedet-s': '32k3s2|48k5s2x2b32|272k3s2x4b120|1024k5s2x10b80|2048k3s2x10b240',
    'maedet-m': '64k3s2|120k3s2x2b64|512k5s2x10b72|1632k5s2x10b112|2048k5s2x8b184',
    'maedet-l': '80k3s2|144k3s2x2b80|608k5s2x12b88|1912k5s2x12b136|2400k5s2x10b220',
    'maedet-init': '32k3s2|256k3s2x1b64|512k3s2x1b128|768k3s2x1b256|1024k3s1x1b256|2048k3s2x1b512',
}

#: Those published with weights and figures, for images of 3 channels.
PUBLISHED_NETS = tuple(name for name in PUBLISHED if name != 'maedet-init')

#: ResNet-50 as a structure, for comparison; the stride of its max-pool is in the first block.
RESNET50 = '64k7s2|256k3s2x3b64|512k3s2x4b128|1024k3s2x6b256|2048k3s2x3b512'


class Stem(NamedTuple):
    """The first convolution; BN and ReLU follow it."""

    out: int
    kernel: int
    stride: int


class SuperBlock(NamedTuple):
    """Super-block: a sequence of ``depth`` bottlenecks; the first has the stride and ``cin`` input channels.

    A bottleneck is 1x1 to ``bottleneck`` channels, kernel x kernel, 1x1 to ``out`` channels.
    """

    cin: int
    out: int
    kernel: int
    stride: int
    depth: int
    bottleneck: int


def unpack(arch: Architecture) -> tuple[Stem, tuple[SuperBlock, ...]]:
    """Returns stem and super-blocks of a validated architecture."""
    genes = arch.genes
    stem = Stem(*genes[:3])
    blocks: list[SuperBlock] = []
    cin = stem.out
    for first in range(3, len(genes), 5):
        blocks.append(SuperBlock(cin, *genes[first : first + 5]))
        cin = blocks[-1].out
    return stem, tuple(blocks)


def stages(strides: Sequence[int]) -> list[int]:
    """Returns the stage of every super-block: 0 is the stem's, and every block of stride 2 begins a new stage."""
    return np.cumsum(np.asarray(strides) == 2).tolist()


def stage_ends(strides: Sequence[int]) -> list[int]:
    """Returns the indices of the super-blocks that end a stage, except the stem's stage."""
    numbers = stages(strides)
    return [i for i, own in enumerate(numbers) if own and (i + 1 == len(numbers) or numbers[i + 1] > own)]


def to_text(arch: Architecture) -> str:
    """Writes the compact text, such as ``'32k3s2|48k5s2x2b32|…'``: width, kernel, stride, depth (x), bottleneck (b)."""
    stem, blocks = unpack(arch)
    parts = [f'{stem.out}k{stem.kernel}s{stem.stride}']
    parts += [f'{b.out}k{b.kernel}s{b.stride}x{b.depth}b{b.bottleneck}' for b in blocks]
    return '|'.join(parts)


def to_dicts(arch: Architecture, in_channels: int = RGB) -> list[dict[str, Any]]:
    """Writes the authors' list of dicts, which includes the channels of the images."""
    stem, blocks = unpack(arch)
    dicts: list[dict[str, Any]] = [
        {'class': _STEM_CLASS, 'in': in_channels, 'out': stem.out, 's': stem.stride, 'k': stem.kernel}
    ]
    for b in blocks:
        dicts.append(
            {'class': _BLOCK_CLASS, 'in': b.cin, 'out': b.out, 's': b.stride, 'k': b.kernel, 'L': b.depth}
            | {'btn': b.bottleneck}
        )  # fmt: skip
    return dicts


def read_with_channels(value: Any, in_channels: int | None = None) -> tuple[Architecture, int]:
    """Reads one net and the channels of its images.

    Args:
        value: See :func:`read_structure`.
        in_channels: Channels of the images. Defaults to that of a list of dicts, else 3.

    Raises:
        ValueError: See :func:`read_structure`.
    """
    if in_channels is None:
        first = value[0] if isinstance(value, Sequence) and len(value) else None
        said: Any = first.get('in') if isinstance(first, Mapping) else None
        in_channels = said if _is_integer(said) and 1 <= said <= MAX_WIDTH else RGB
    return read_structure(value, in_channels), in_channels


def read_structure(value: Any, in_channels: int = RGB) -> Architecture:
    """Reads one net in any of the forms that users write.

    Args:
        value: The name of a published net, the compact text (:func:`to_text`), the authors' list of dicts, a flat
            sequence of genes, or an :class:`Architecture`.
        in_channels: Channels of the images.

    Raises:
        ValueError: If it is none of these, or for images of other channels; names block and rule.
    """
    if isinstance(value, Architecture):
        genes: list[Any] = list(value.genes)
    elif isinstance(value, str):
        if value in PUBLISHED_NETS and in_channels != RGB:
            raise DetNASError(
                f'{value!r} is a published net, for images of {RGB} channels; got in_channels={in_channels}. '
                f'Use its structure instead of its name: {PUBLISHED[value]!r}.'
            )
        genes = _from_text(PUBLISHED.get(value, value))
    elif isinstance(value, (Sequence, np.ndarray)) and len(value):
        if all(isinstance(item, Mapping) for item in value):
            return Architecture(tuple(_from_dicts(list(value), in_channels)))
        genes = list(value)
    else:
        raise DetNASError(f'A structure is {_FORMS}; got {value!r} of type {type(value).__name__}.')
    _check_genes(genes, value)
    return Architecture(tuple(int(gene) for gene in genes))


_FORMS = (
    f'a published name ({", ".join(PUBLISHED)}), a text such as {PUBLISHED["maedet-s"]!r}, or the list of dicts of the '
    f"authors' files, [{{'class': '{_STEM_CLASS}', …}}, {{'class': '{_BLOCK_CLASS}', …}}, …]"
)


def _from_text(text: str) -> list[int]:
    parts = re.sub(r'\s', '', text[:10_000]).split('|')
    found = [(_BLOCK_TEXT if i else _STEM_TEXT).fullmatch(part) for i, part in enumerate(parts)]
    if not all(found) or len(text) > 10_000:
        bad = next((part for part, ok in zip(parts, found, strict=True) if not ok), '…')
        raise DetNASError(f'Cannot read {bad[:60]!r} in {text[:200]!r}. A structure is {_FORMS}.')
    return [int(number) for match in found if match for number in match.groups()]


def _from_dicts(dicts: Sequence[Mapping], in_channels: int) -> list[int]:
    for index, block in enumerate(dicts):  # before the keys are checked: the class is the more helpful message
        _check_class(index, block)
    genes: list[int] = []
    cin = in_channels
    for index, block in enumerate(dicts):
        where, keys = _place(index), _BLOCK_KEYS if index else _STEM_KEYS
        known = ('class', 'in', *keys.values())
        wrong = dict(
            lacks=[key for key in known if key not in block],
            has=[key for key in block if key not in known and (key != 'inner_class' or not index)][:5],
        )
        if any(wrong.values()):
            what = ' and '.join(f'{verb} {found}' for verb, found in wrong.items() if found)
            raise DetNASError(f'{where} {what}; its keys are {", ".join(known)}. Got {str(dict(block))[:200]}.')
        own = [block[key] for key in keys.values()]
        _check_block(index, own, dicts)
        if not _is_integer(block['in']) or block['in'] != cin:
            before = 'the one before it gives' if index else 'images have'
            raise DetNASError(f'{where} has in={block["in"]!r}; {before} {cin} channel{"s" * (cin != 1)}.')
        cin = block['out']
        genes += own
    _check_genes(genes, dicts)
    return genes


def _check_class(index: int, block: Mapping) -> None:
    """Raises for a block of another family of nets, by its ``class`` and ``inner_class``."""
    found = block.get('class'), block.get('inner_class', _INNER_CLASS)
    if found[0] not in (None, _BLOCK_CLASS if index else _STEM_CLASS):
        what = f'class {found[0]!r}'
    elif index and found[1] != _INNER_CLASS:
        what = f'inner_class {found[1]!r}'
    else:
        return
    raise DetNASError(
        f'{_place(index)} has {what}, which belongs to another family of nets. Supported are a stem of class '
        f'{_STEM_CLASS} followed by blocks of class {_BLOCK_CLASS} (with inner_class {_INNER_CLASS}, if given).'
    )


def _place(index: int) -> str:
    return f'Block {index}' if index else 'The stem (block 0)'


def _is_integer(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _check_block(index: int, genes: Sequence[Any], value: Any) -> None:
    """Validates the genes of one block, independently of a space."""
    limits = dict(out=MAX_WIDTH, kernel=MAX_KERNEL, stride=2, depth=MAX_DEPTH, bottleneck=MAX_WIDTH)
    for name, gene in zip(BLOCK_GENES if index else STEM_GENES, genes, strict=True):
        if not _is_integer(gene) or not 1 <= gene <= limits[name]:
            raise DetNASError(
                f'{_place(index)} of {str(value)[:200]} has {name}={gene!r}; it must be an integer in 1–{limits[name]}.'
            )
        if name == 'kernel' and gene % 2 == 0:
            raise DetNASError(f'{_place(index)} of {str(value)[:200]} has kernel={gene}; kernels must be odd.')


def _check_genes(genes: Sequence[Any], value: Any) -> None:
    count, rest = divmod(len(genes) - 3, 5)
    if rest or not 1 <= count <= MAX_BLOCKS:
        raise DetNASError(
            f'{str(value)[:200]} has {len(genes)} genes; a structure has 3 for its stem {STEM_GENES} and 5 for each of '
            f'1–{MAX_BLOCKS} blocks {BLOCK_GENES}.'
        )
    _check_block(0, genes[:3], value)
    for index in range(count):
        _check_block(index + 1, genes[3 + 5 * index : 8 + 5 * index], value)
