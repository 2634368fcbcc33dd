"""README.md: short, and its commands and configs fit together; with what its longer forms in docs/ say."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from detnas_mm import zoo
from detnas_mm.engine.launch import search_job
from detnas_mm.systems.detnas.convert_megvii import convert
from detnas_mm.systems.detnas.space import LAST_CHANNELS, PRESETS

from .commands import FENCE, ROOT, assert_images_as_trained, build, commands, options, read_config

sys.path.insert(0, str(ROOT / 'tests' / 'test_models'))
from megvii_reference import make_state_dict

README = ROOT / 'README.md'
PYTHON = [text for kind, text in FENCE.findall(README.read_text()) if kind == 'python']


def test_it_is_short():
    assert len(README.read_text().splitlines()) <= 80


def test_a_net_in_ones_own_project(tmp_path):
    """The example config builds, and its channels are those of the backbone."""
    (text,) = (text for text in PYTHON if '_base_' in text)
    (tmp_path / 'mine.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'mine.py')
    assert_images_as_trained(cfg)
    model = build(cfg)
    assert model.backbone.arch == zoo.get('coco-retinanet-300m').architecture()
    assert tuple(model.neck.in_channels) == model.backbone.space.channels


def follow(steps, made):
    """Programs and configs exist, models build with the options given, each step finds what an earlier one leaves.

    Args:
        steps: Commands, as lists of words.
        made: Checkpoints that are there; those of the steps are added.

    Returns:
        The names of the programs, in order.
    """
    done, folder, source = [], None, None
    for program, script, *args in steps:
        assert program == {'.py': 'python', '.sh': 'bash'}[Path(script).suffix]
        assert (ROOT / script).is_file(), script
        done.append(Path(script).name)
        if done[-1] == 'split_coco.py':
            source = args[0]
            folder = Path(source).parent
            continue
        if done[-1] == 'megvii_to_detnas_mm.py':
            made.add(args[1])
            continue
        cfg = Config.fromfile(ROOT / args[0])
        cfg.merge_from_dict(options(args[3 if done[-1] == 'dist_search.sh' else 2 :]))
        checkpoint = cfg.model.backbone.get('init_cfg')
        if checkpoint:
            assert checkpoint.type == 'Pretrained' and checkpoint.prefix == 'backbone.'
            assert checkpoint.checkpoint in made
        data = cfg.train_dataloader.dataset
        if data.type == 'CocoDataset':
            # Split before it is used: the supernet sees one part, the found net all.
            assert Path(data.data_root + data.ann_file) in (folder / 'detnas_train.json', Path(source))
        if done[-1] == 'dist_search.sh':
            assert args[1] in made
            assert args[2].isdigit()
            evaluator = cfg.search.evaluator
            looked_at = evaluator.dataloader.dataset
            assert Path(looked_at.data_root + looked_at.ann_file) == folder / 'detnas_search_val.json'
            assert Path(evaluator.metric.ann_file) == folder / 'detnas_search_val.json'
            job = search_job(cfg, args[1])
            assert build(cfg).backbone.space.spec() == job.space.spec()
            assert (job.generations, job.strategy.population) == (20, 50)
            assert [(c.cost, c.high) for c in job.budget.constraints] == [('macs', 300e6)]
            continue
        assert args[1].isdigit()
        made.add(f'work_dirs/{Path(args[0]).stem}/iter_{cfg.train_cfg.max_iters}.pth')
        backbone = build(cfg).backbone
        if cfg.model.backbone.type.endswith('Net'):
            assert backbone.arch == zoo.get('coco-fpn-300m').architecture()
    return done


@pytest.fixture
def usual_folders(monkeypatch):
    for name in ('DETNAS_COCO', 'DETNAS_IMAGENET'):
        monkeypatch.delenv(name, raising=False)


def test_the_steps_from_the_authors_supernet(usual_folders):
    steps = commands(README, 'coco-from-authors')
    assert follow(steps, set()) == ['split_coco.py', 'megvii_to_detnas_mm.py', 'dist_train.sh', 'dist_search.sh']


def test_all_steps_on_coco(usual_folders):
    steps = commands(ROOT / 'docs/detnas.md', 'coco-steps')
    assert follow(steps, set()) == [
        'split_coco.py',
        'dist_train.sh',
        'dist_train.sh',
        'dist_search.sh',
        'dist_train.sh',
        'dist_train.sh',
    ]


def test_a_converted_supernet_fits_the_fine_tuning():
    """Of the authors' layout, with random weights: their own file was not tried."""
    converted = convert(make_state_dict(**PRESETS['small'], last=LAST_CHANNELS, classes=1000))
    cfg = read_config('configs/detnas/detnas-small_supernet_fpn_coco.py')
    prefix = cfg.model.backbone.init_cfg.prefix
    assert converted.meta['arch'] is None and converted.meta['prefix'] == prefix
    backbone = build(cfg.copy()).backbone
    assert converted.meta['channel_split'] == backbone.channel_split
    for key, value in backbone.state_dict().items():
        assert converted.state_dict[prefix + key].shape == value.shape, key


def test_the_supernet_that_was_measured():
    """The command below the table of benchmarks/measured.md does what its row says."""
    text = (ROOT / 'benchmarks/measured.md').read_text().replace('\\\n', ' ')
    row = re.search(r"^\| torch's own \| no \| AdamW ([\de-]+) \| ([\d,]+) \|", text, re.MULTILINE)
    config, *words = shlex.split(re.search(r'^python tools/train.py (\S+_supernet_cls.py .*)$', text, re.MULTILINE)[1])
    cfg = Config.fromfile(ROOT / config)
    cfg.merge_from_dict(options(words))
    assert cfg.model.backbone.aligned_init is False
    assert cfg.optim_wrapper.optimizer.type == 'AdamW' and cfg.optim_wrapper.optimizer.lr == float(row[1])
    assert cfg.train_cfg.max_iters == int(row[2].replace(',', ''))


def test_the_published_nets():
    """The tables of docs/zoo.md are the zoo."""
    rows = {}
    for line in (ROOT / 'docs/zoo.md').read_text().splitlines():
        cells = [cell.strip().replace('\\|', '|') for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
        name = re.match(r'`([\w.-]+)`', cells[0]) if len(cells) == 4 else None
        if name and re.fullmatch(r'[\d,]+', cells[1]):
            rows[name[1]] = (*(int(cell.replace(',', '')) for cell in cells[1:3]), cells[3])
    wide = rows['coco-fpn-3.8g']
    assert wide[2].startswith('the same')
    rows['coco-fpn-3.8g'] = (*wide[:2], rows['coco-fpn-1.3g'][2])
    nets = [net for net in zoo.nets().values() if len(net.arch) < 300]  # longer ones are in the package alone
    assert rows == {net.name: (net.macs, net.params, net.arch) for net in nets}
