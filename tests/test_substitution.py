"""Values that configs read from the environment are used literally, whatever their content."""

import pytest
from mmengine.config import Config

import detnas_mm  # noqa: F401
from detnas_mm.config_types import config_text

TEXT = """
root = '{{$ROOT:data/digits}}/'
double = "{{ $ROOT : data/digits }}"
other = '{{$OTHER:default}}', '{{$UNSET:default}}'
count = {{'$COUNT:80'}}
here = '{{ fileDirname }}/{{fileBasenameNoExtension}}'
"""
VALUES = ["it's", 'say "hi"', 'back\\slash\\1', 'two\nlines', 'Zürich – 数字', "'", 'plain', '\\g<0>', '{a}']


@pytest.mark.parametrize('value', VALUES)
def test_environment_and_file_names(tmp_path, monkeypatch, value):
    monkeypatch.setenv('ROOT', value)
    monkeypatch.setenv('COUNT', '7')
    folder = tmp_path / value.replace('\\', '')
    folder.mkdir()
    (folder / "o'base.py").write_text(TEXT, encoding='utf-8')
    cfg = Config.fromfile(folder / "o'base.py")
    assert (cfg.root, cfg.double, cfg.other, cfg.count) == (f'{value}/', value, ('default', 'default'), 7)
    assert cfg.here == f"{folder}/o'base" and cfg.env_variables == dict(ROOT=value, COUNT='7')
    assert Config.fromstring(config_text(cfg), '.py').to_dict() == cfg.to_dict()


def test_a_config_that_inherits_one(tmp_path, monkeypatch):
    monkeypatch.setenv('ROOT', "it's")
    (tmp_path / 'base.py').write_text("root = '{{$ROOT:a}}'")
    (tmp_path / 'heir.py').write_text("_base_ = './base.py'\nown = {{_base_.root}}, '{{$ROOT:a}}'")
    cfg = Config.fromfile(tmp_path / 'heir.py')
    assert cfg.root == "it's" and cfg.own == ("it's", "it's")
