"""Digits on disk: PNG files, digests, the stamp, and moving a finished set into place."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from detnas_mm.files import lock, write_json

FORMAT = 2  # of files and pictures; a set of another format is made again
STAMP = 'digits.json'
FOLDERS = ('annotations', 'cls', 'train', 'search_val', 'test')
CREDITS = 'CREDITS.txt'
OWN_NAMES = (*FOLDERS, CREDITS)
WORKSHOP = '.making'


def encode_png(pixels: np.ndarray) -> bytes:
    """Encodes a uint8 array of shape (height, width, 3), RGB, as an uncompressed PNG.

    Noise compresses badly, and the output of deflate differs between versions of zlib: uncompressed, the same pixels
    give the same bytes everywhere. Such files are also quick to read.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + width * 3), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    raw = rows.tobytes()
    blocks = [raw[i : i + 65535] for i in range(0, len(raw), 65535)]
    stored = b''.join(
        struct.pack('<BHH', i == len(blocks) - 1, len(b), len(b) ^ 0xFFFF) + b for i, b in enumerate(blocks)
    )
    data = b'\x78\x01' + stored + struct.pack('>I', zlib.adler32(raw))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack('>I', len(body)) + name + body + struct.pack('>I', zlib.crc32(name + body))

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + chunk(b'IDAT', data) + chunk(b'IEND', b'')


def png_size(side: int) -> int:
    """Returns the number of bytes of a square picture as :func:`encode_png` writes it."""
    raw = side * (1 + side * 3)
    return raw + 5 * -(-raw // 65535) + 6 + 57


def digest(folder: Path) -> dict[str, Any]:
    """Returns the number of files in a folder, at any depth, and a SHA-256 over their names and bytes."""
    sha = hashlib.sha256()
    names = sorted(os.path.relpath(os.path.join(root, f), folder) for root, _, files in os.walk(folder) for f in files)
    for name in names:
        content = (folder / name).read_bytes()
        sha.update(f'{name}\0{len(content)}\0'.encode())
        sha.update(content)
    return {'files': len(names), 'sha256': sha.hexdigest()}


def write_stamp(out_dir: Path, content: Mapping[str, Any]) -> None:
    """Writes the stamp atomically."""
    write_json(out_dir / STAMP, content, indent=1)


def read_stamp(out_dir: Path) -> dict[str, Any] | None:
    """Reads the stamp; None if there is none; an empty dict if it cannot be read."""
    try:
        stamp = json.loads((out_dir / STAMP).read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def find_damage(out_dir: Path, stamp: Mapping[str, Any]) -> str | None:
    """Returns the fault of a set as text; None if every file is as it was written.

    Reads everything: about a second for the default set.
    """
    if not stamp.get('complete'):
        return f'{STAMP} is unreadable, or the set was never finished'
    if stamp.get('format') != FORMAT:
        return f'it has format {stamp.get("format")}, but this version writes {FORMAT}'
    for name in FOLDERS:
        written, found = stamp['folders'].get(name), digest(out_dir / name)
        if written is None:
            return f'{STAMP} has no entry for {name}/'
        if found['files'] != written['files']:
            return f'{name}/ holds {found["files"]} files instead of {written["files"]}'
        if found != written:
            return f'files in {name}/ were changed'
    return None


def belongs_to_digits(out_dir: Path) -> bool:
    """Returns True if a folder without a stamp is recognisably a Digits set that lost it, so it may be replaced."""
    for path in (out_dir / 'annotations').glob('instances_*.json'):
        with path.open('rb') as file:
            if b'"detnas_mm Digits"' in file.read(200):
                return True
    return not any((out_dir / name).exists() for name in OWN_NAMES)


@contextmanager
def locked(out_dir: Path) -> Iterator[None]:
    """Locks a folder: other processes that make the same set wait."""
    handle = lock(out_dir, wait=True)
    try:
        yield
    finally:
        os.close(handle)


def put_in_place(workshop: Path, out_dir: Path, stamp: Mapping[str, Any]) -> None:
    """Moves a finished set into ``out_dir``; other files there are kept.

    If it is killed halfway the stamp says that the set is not complete, and the next call makes it again.
    """
    write_stamp(out_dir, {**stamp, 'complete': False})
    for name in OWN_NAMES:
        target = out_dir / name
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)
        os.rename(workshop / name, target)
    write_stamp(out_dir, {**stamp, 'complete': True})
