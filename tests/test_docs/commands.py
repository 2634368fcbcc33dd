"""Reads the commands and configs of pages, and builds what they name."""

import argparse
import functools
import re
import shlex
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from detnas_mm.engine.config import fit_to_machine
from detnas_mm.options import Options

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)


@functools.cache
def read_config(path):
    return Config.fromfile(ROOT / path)


def block(page, marker):
    """The fenced text below ``<!-- marker -->``."""
    return re.search(rf'^<!-- {marker} -->\n```\w*\n(.*?)^```$', page.read_text(), re.MULTILINE | re.DOTALL)[1]


def commands(page, marker):
    """The commands below a marker, each as a list of words."""
    lines = block(page, marker).replace('\\\n', ' ').splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def options(words):
    """Returns the settings that ``--cfg-options`` in a command makes."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    parser.add_argument('--cfg-options', nargs='+', action=Options, default={})
    return parser.parse_args(words).cfg_options


def build(cfg):
    """The model of a config, on torch's meta device, without the checkpoints that it would begin with."""
    cfg = fit_to_machine(cfg)
    cfg.model.pop('init_cfg', None)
    cfg.model.backbone.pop('init_cfg', None)
    init_default_scope(cfg.default_scope)
    with torch.device('meta'):
        return MODELS.build(cfg.model)


def assert_images_as_trained(cfg):
    """The images reach the backbone as they do in this package's own configs."""
    own = read_config('configs/detnas/detnas-small_net_retinanet_coco.py').model.data_preprocessor
    assert cfg.model.data_preprocessor == own and 'mean' not in own
