"""Fills values from outside into config files (``{{$NAME:default}}``, ``{{ fileDirname }}``), escaped.

mmengine inserts such values into the text of a config: a quote in them ends the string that they are in, and a
backslash is an instruction to ``re.sub``. Here they are escaped for a Python string. Standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_ENVIRONMENT = re.compile(r"""\{\{['"]?\s*\$(\w+)\s*:\s*\S*?\s*['"]?\}\}""")
_FILE = re.compile(r'\{\{\s*(file\w+)\s*\}\}')
_ESCAPES = str.maketrans({'\\': r'\\', "'": r'\'', '"': r'\"', '\n': r'\n', '\r': r'\r'})


def take_as_they_stand(config: Any) -> None:
    """Makes mmengine's ``Config`` accept values with quotes, backslashes or line breaks.

    Args:
        config: The class ``Config``.
    """
    config._substitute_predefined_vars = staticmethod(_escaping(config._substitute_predefined_vars, _FILE, _of_file))
    config._substitute_env_variables = staticmethod(
        _escaping(config._substitute_env_variables, _ENVIRONMENT, lambda filename: os.environ)
    )


def _of_file(filename: str) -> dict[str, str]:
    path = Path(filename)
    return dict(
        fileDirname=os.path.dirname(filename),
        fileBasename=path.name,
        fileBasenameNoExtension=path.stem,
        fileExtname=path.suffix,
    )


def _escaping(
    fill_in: Callable[[str, str], Any], pattern: re.Pattern, values_of: Callable[[str], Mapping[str, str]]
) -> Callable[[str, str], Any]:
    """Wraps a function of mmengine that reads a file, fills in values, writes a file and returns the values.

    The original function is used if no value needs escaping.
    """

    def filled_in(filename: str, target: str) -> Any:
        values = values_of(filename)
        text = Path(filename).read_text(encoding='utf-8')
        used = {name: values[name] for name in pattern.findall(text) if name in values}
        escaped = {name: value.translate(_ESCAPES) for name, value in used.items()}
        if escaped == used or not filename.endswith('.py'):
            return fill_in(filename, target)
        text = pattern.sub(lambda found: escaped.get(found[1], found[0]), text)
        Path(target).write_text(text, encoding='utf-8')
        rest = fill_in(target, target)  # such as defaults
        return rest if rest is None else used | rest

    return filled_in
