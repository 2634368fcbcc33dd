"""How Digits lies on disk: pictures, digests, the stamp, and putting a finished set in place."""

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

FORMAT = 2  # of the files and of what they show; another one is made anew
STAMP = 'digits.json'
FOLDERS = ('annotations', 'cls', 'train', 'search_val', 'test')
CREDITS = 'CREDITS.txt'
OWN_NAMES = (*FOLDERS, CREDITS)
WORKSHOP = '.making'


def encode_png(pixels: np.ndarray) -> bytes:
    """A PNG file of a uint8 array of shape (height, width, 3), RGB, uncompressed.

    The noise leaves little to compress, and deflate's output differs between versions of zlib: stored as they are, the
    same pixels are the same bytes everywhere. They are also quick to read.
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
    """Bytes of a square picture that :func:`encode_png` writes."""
    raw = side * (1 + side * 3)
    return raw + 5 * -(-raw // 65535) + 6 + 57


def digest(folder: Path) -> dict[str, Any]:
    """What is in a folder, at any depth: the number of files, and a SHA-256 over their names and bytes."""
    sha = hashlib.sha256()
    names = sorted(os.path.relpath(os.path.join(root, f), folder) for root, _, files in os.walk(folder) for f in files)
    for name in names:
        content = (folder / name).read_bytes()
        sha.update(f'{name}\0{len(content)}\0'.encode())
        sha.update(content)
    return {'files': len(names), 'sha256': sha.hexdigest()}


def write_stamp(out_dir: Path, content: Mapping[str, Any]) -> None:
    """Write the stamp, whole or not at all."""
    write_json(out_dir / STAMP, content, indent=1)


def read_stamp(out_dir: Path) -> dict[str, Any] | None:
    """The stamp; None if there is none; an empty one if it cannot be read."""
    try:
        stamp = json.loads((out_dir / STAMP).read_text())
    except FileNotFoundError:
        return None
    except (ValueError, OSError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def find_damage(out_dir: Path, stamp: Mapping[str, Any]) -> str | None:
    """What is wrong with a set, in words; None if every file is as it was written.

    Reads everything: about a second for the default set.
    """
    if not stamp.get('complete'):
        return f'{STAMP} is unreadable or says that the set was never finished'
    if stamp.get('format') != FORMAT:
        return f'it has format {stamp.get("format")}, this version writes {FORMAT}'
    for name in FOLDERS:
        written, found = stamp['folders'].get(name), digest(out_dir / name)
        if written is None:
            return f'{STAMP} says nothing of {name}/'
        if found['files'] != written['files']:
            return f'{name}/ holds {found["files"]} files instead of {written["files"]}'
        if found != written:
            return f'the contents of {name}/ are not what was written'
    return None


def belongs_to_digits(out_dir: Path) -> bool:
    """Whether a folder without a stamp is recognisably a Digits set that lost it (so replacing it harms nobody)."""
    for path in (out_dir / 'annotations').glob('instances_*.json'):
        with path.open('rb') as file:
            if b'"detnas_mm Digits"' in file.read(200):
                return True
    return not any((out_dir / name).exists() for name in OWN_NAMES)


@contextmanager
def locked(out_dir: Path) -> Iterator[None]:
    """Hold a folder against other processes that make the same set; they wait."""
    handle = lock(out_dir, wait=True)
    try:
        yield
    finally:
        os.close(handle)


def put_in_place(workshop: Path, out_dir: Path, stamp: Mapping[str, Any]) -> None:
    """Move a finished set into ``out_dir``; whatever else lies there stays.

    Killed halfway, it leaves a stamp that says 'not complete', and the next call makes the set anew.
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
