"""Class names of found nets: tools of OpenMMLab show the names of the user's data set with its files."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from mmdet.apis import DetInferencer, init_detector
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmpretrain.apis import ImageClassificationInferencer

from detnas_mm import compat
from detnas_mm.engine import launch
from detnas_mm.engine.config import fit_to_machine
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.pictures import add_drawing, dataset_meta, draw_into
from detnas_mm.engine.search import export_row
from detnas_mm.models import build_model
from detnas_mm.search import SearchJob
from tests import digits

pytestmark = pytest.mark.smoke
NAMES = ('Schräubchen', 'Ñandú', 'œuf à la coque')
IDS = (3, 7, 90)
ANNOTATIONS = 'annotations/instances_{}.json'
SMALL = dict(
    search__strategy__population=2, search__strategy__parents=1, search__strategy__mutation=1,
    search__strategy__crossover=1, search__budget__generations=1, search__evaluator__calibration__num_images=20,
)  # fmt: skip


def own_set(source, folder):
    """The scenes of Digits of which 0, 1 and 2 are things by other names, under ids with gaps."""
    (folder / 'annotations').mkdir(parents=True)
    for split in ('train', 'search_val', 'test'):
        content = json.loads((source / ANNOTATIONS.format(split)).read_text())
        content['categories'] = [dict(id=key, name=name) for key, name in zip(IDS, NAMES, strict=True)]
        content['annotations'] = [
            one | dict(category_id=IDS[one['category_id'] - 1])
            for one in content['annotations']
            if one['category_id'] <= 3
        ]
        (folder / ANNOTATIONS.format(split)).write_text(json.dumps(content))
        (folder / split).symlink_to(source / split)
    return folder


def for_own_set(folder, split):
    return dict(data_root=str(folder), metainfo=dict(classes=NAMES), ann_file=ANNOTATIONS.format(split))


def random_supernet(cfg, folder):
    torch.manual_seed(0)
    model = build_model(cfg)
    model.init_weights()
    torch.save(dict(state_dict=model.state_dict(), meta={}), folder / 'supernet.pth')
    return str(folder / 'supernet.pth')


def training_config(path, name, own):
    """A training config of a user's: one of Digits with a set of one's own."""
    cfg = Config.fromfile(digits.CONFIGS / f'{name}.py')
    cfg.model.bbox_head.num_classes, cfg.model.test_cfg.score_thr = len(NAMES), 0.0  # weights are random
    for split in ('train', 'test'):
        cfg[f'{split}_dataloader'].dataset.update(for_own_set(own, split))
    cfg.test_evaluator.ann_file = str(own / ANNOTATIONS.format('test'))
    path.write_text(cfg.pretty_text)
    return str(path)


@pytest.fixture(scope='module')
def own(digits_folder, tmp_path_factory):
    return own_set(digits_folder, tmp_path_factory.mktemp('own') / 'set')


@pytest.fixture(scope='module')
def search_cfg(own, tmp_path_factory):
    folder = tmp_path_factory.mktemp('search')
    cfg = digits.written(
        'detnas-digits_search_retinanet', folder / 'work', **SMALL, model__test_cfg__score_thr=0.0,
        model__bbox_head__num_classes=len(NAMES),
        search__export__config=training_config(folder / 'net.py', 'detnas-digits_net_retinanet', own),
    )  # fmt: skip
    evaluator = cfg.search.evaluator
    evaluator.dataloader.dataset.update(for_own_set(own, 'search_val'))
    evaluator.metric.ann_file = str(own / ANNOTATIONS.format('search_val'))
    evaluator.calibration.dataloader.dataset.update(for_own_set(own, 'train'))
    cfg.train_dataloader.dataset.update(for_own_set(own, 'train'))
    return cfg


@pytest.fixture(scope='module')
def nets(own, search_cfg, tmp_path_factory):
    """Every way to an exported detector: its config and checkpoint."""
    work = Path(search_cfg.work_dir)
    launch.search(search_cfg, random_supernet(search_cfg, work.parent))
    best = json.loads((work / 'best.json').read_text())[0]
    files = export_row(work, best['id'])
    folder = tmp_path_factory.mktemp('structure')
    cfg = digits.written(
        'maedet-digits_search_retinanet', folder,
        search__export__config=training_config(folder / 'net.py', 'maedet-digits_s_retinanet', own),
    )  # fmt: skip
    launch.search(cfg)
    structure = folder / json.loads((folder / 'best.json').read_text())[0]['config']
    cfg = Config.fromfile(structure)  # has no weights before it is trained
    cfg.train_cfg.max_iters, cfg.work_dir, cfg.experiment_name = 1, str(folder / 'trained'), f'structure-{id(cfg)}'
    Runner.from_cfg(fit_to_machine(cfg)).train()
    return dict(
        best=(work / best['config'], work / best['checkpoint']),
        search_val=(work / best['search_val'], work / best['checkpoint']),
        exported=(files['config'], files['checkpoint']),
        structure=(structure, folder / 'trained' / 'iter_1.pth'),
    )


@pytest.fixture
def drawn(monkeypatch):
    """Words that are drawn beside boxes."""
    words, draw = [], Visualizer.draw_texts

    def noted(self, texts, *args, **kwargs):
        words.extend([texts] if isinstance(texts, str) else texts)
        return draw(self, texts, *args, **kwargs)

    monkeypatch.setattr(Visualizer, 'draw_texts', noted)
    return words


def names_of(words):
    return {word.partition(':')[0].strip() for word in words}


KINDS = ['best', 'search_val', 'exported', 'structure']


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_mmdet_reads_the_names_of_the_set(nets, own, tmp_path, drawn, kind):
    config, checkpoint = map(str, nets[kind])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter('always')
        assert tuple(init_detector(config, checkpoint, device='cpu').dataset_meta['classes']) == NAMES
        inferencer = DetInferencer(config, checkpoint, device='cpu', show_progress=False)
        inferencer(str(own / 'test' / '000000.png'), out_dir=str(tmp_path), pred_score_thr=0.0)
    assert not [one for one in said if 'COCO' in str(one.message)]
    assert (tmp_path / 'vis' / '000000.png').is_file() and names_of(drawn) and names_of(drawn) <= set(NAMES)


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS[:3])
def test_what_a_checkpoint_says_is_plain(nets, kind):
    meta = torch.load(nets[kind][1], weights_only=True)['meta']
    assert meta['dataset_meta']['classes'] == NAMES and len(meta['dataset_meta']['palette']) >= len(NAMES)
    assert meta['arch'] and meta['id']


@pytest.mark.slow
@pytest.mark.parametrize('kind', KINDS)
def test_a_test_draws_the_names_of_the_set(nets, tmp_path, drawn, kind):
    """By tools/test.py --show-dir, and as mmdet's own test script turns the hook on."""
    cfg = Config.fromfile(nets[kind][0])
    cfg.work_dir, cfg.load_from, cfg.launcher = str(tmp_path / 'w'), str(nets[kind][1]), 'none'
    cfg.test_dataloader.dataset.indices = 3
    cfg.default_hooks.visualization.score_thr = 0.0
    own_script = Config.fromfile(nets[kind][0])
    assert own_script.default_hooks.visualization.type == 'mmdet.DetVisualizationHook'
    draw_into(cfg, tmp_path / 'my pictures')
    cfg.test_evaluator = dict(type='mmdet.DumpDetResults', out_file_path=str(tmp_path / 'found.pkl'))
    cfg.experiment_name = f'test-{id(cfg)}'
    launch.test(cfg)
    assert len(list((tmp_path / 'my pictures').glob('*.png'))) == 3
    assert names_of(drawn) and names_of(drawn) <= set(NAMES)


@pytest.mark.slow
def test_mim_test_tells_the_names_of_the_set(nets, tmp_path):
    """In another folder, by mmdet's own script."""
    package = 'mmdetection' if compat.find_family() == 'onedl' else 'mmdet'  # as each family's mim knows it
    config, checkpoint = map(str, nets['best'])
    mim = [str(Path(sys.executable).with_name('mim')), 'test', package, config, '--checkpoint', checkpoint]
    options = ['test_evaluator.classwise=True', 'default_hooks.visualization.score_thr=0.0']
    options += ['test_dataloader.dataset.indices=3', 'model.test_cfg.max_per_img=5']
    more = ['--work-dir', str(tmp_path / 'w'), '--show-dir', 'pictures', '--cfg-options', *options]
    done = subprocess.run(
        [*mim, '--launcher', 'none', '--gpus', '0', *more], cwd=tmp_path, capture_output=True, text=True, timeout=600,
        env=os.environ | {'OMP_NUM_THREADS': '1', 'PYTHONWARNINGS': 'ignore'},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert all(name in done.stdout + done.stderr for name in NAMES)
    assert len(list((tmp_path / 'w').glob('*/pictures/*.png'))) == 3


@pytest.mark.slow
def test_classifiers_say_the_names_of_their_folders(digits_folder, tmp_path):
    names = [f'klein – {number}' for number in range(10)]
    for split in ('train', 'search_val', 'test'):
        for number, name in enumerate(names):
            target = tmp_path / 'set' / 'cls' / split / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(digits_folder / 'cls' / split / str(number), target)
    cfg = digits.written('detnas-digits_search_cls', tmp_path / 'work', **SMALL)
    cfg.search.evaluator.dataloader.dataset.data_root = str(tmp_path / 'set')
    cfg.search.evaluator.calibration.dataloader.dataset.data_root = str(tmp_path / 'set')
    launch.search(cfg, random_supernet(cfg, tmp_path))
    best = json.loads((tmp_path / 'work' / 'best.json').read_text())[0]
    config, checkpoint = (str(tmp_path / 'work' / best[key]) for key in ('search_val', 'checkpoint'))
    assert list(torch.load(checkpoint, weights_only=True)['meta']['dataset_meta']['classes']) == names
    image = next((tmp_path / 'set' / 'cls' / 'test').glob('*/*.png'))
    (said,) = ImageClassificationInferencer(config, checkpoint, device='cpu')(str(image))
    assert said['pred_class'] in names
    cfg = Config.fromfile(config)
    cfg.work_dir, cfg.load_from, cfg.launcher = str(tmp_path / 'w'), checkpoint, 'none'
    cfg.test_dataloader.dataset.indices = 3
    draw_into(cfg, tmp_path / 'pictures')
    launch.test(cfg)
    assert len(list((tmp_path / 'pictures').glob('*'))) == 3


# -- where names come from, and what is refused ------------------------------------------------------------------------


def test_names_of_sets_of_sets_and_of_files(tmp_path):
    one = dict(type='CocoDataset', ann_file='nowhere.json', metainfo=dict(classes=NAMES, palette=[(1, 2, 3)] * 3))
    many = dict(type='RepeatDataset', times=2, dataset=dict(type='ConcatDataset', datasets=[one, dict(one)]))
    cfg = Config(dict(train_dataloader=dict(dataset=many), default_scope='mmdet'))
    found = dict(classes=NAMES, palette=[[1, 2, 3]] * 3)
    assert dataset_meta(cfg, ('test_dataloader', 'train_dataloader')) == found
    (tmp_path / 'names.txt').write_text('\n'.join(NAMES), encoding='utf-8')
    one['metainfo'] = dict(classes=str(tmp_path / 'names.txt'), palette=[(1, 2, 3)] * 2)  # too few colours
    cfg = Config(dict(train_dataloader=dict(dataset=one), default_scope='mmdet'))
    assert dataset_meta(cfg, ('train_dataloader',)) == dict(classes=NAMES)
    for nothing in ({}, dict(train_dataloader=None), dict(train_dataloader=dict(dataset=dict(type='Nothing')))):
        assert dataset_meta(Config(nothing), ('train_dataloader',)) == {}


@pytest.mark.parametrize('scope', ['mmdet', None])
def test_a_visualizer_that_is_there_stays(scope):
    """One is added of the library that the model is of, whatever the default scope."""
    cfg = Config(dict(model=dict(type='mmdet.models.RetinaNet'), default_scope=scope, visualizer=None))
    add_drawing(cfg)
    assert cfg.visualizer.type == 'mmdet.DetLocalVisualizer'
    cfg.visualizer.type = 'mmdet.TrackLocalVisualizer'
    cfg.default_hooks.visualization.interval = 7
    add_drawing(cfg)
    assert cfg.visualizer.type == 'mmdet.TrackLocalVisualizer' and cfg.default_hooks.visualization.interval == 7
    cfg.visualizer = dict(type='Visualizer')  # draws no boxes
    draw_into(cfg, 'pictures')
    assert cfg.visualizer.type == 'mmdet.DetLocalVisualizer' and cfg.default_hooks.visualization.draw
    assert cfg.default_hooks.visualization.test_out_dir == str(Path.cwd() / 'pictures')
    with pytest.raises(ValueError, match='--show-dir needs a model of mmdet or mmpretrain'):
        draw_into(Config(dict(model=dict(type='torch.nn.Linear'))), 'pictures')


def test_a_training_config_with_other_names_is_refused(search_cfg, tmp_path):
    cfg = Config.fromfile(search_cfg.search.export.config)
    cfg.train_dataloader.dataset.metainfo.classes = cfg.test_dataloader.dataset.metainfo.classes = NAMES[::-1]
    (tmp_path / 'other.py').write_text(cfg.pretty_text)
    changed = Config(search_cfg.to_dict())
    changed.search.export.config = str(tmp_path / 'other.py')
    with pytest.raises(ValueError, match=f"class 0 of the data is '{NAMES[2]}' in .*other.py, but '{NAMES[0]}' in sea"):
        Exporter(SearchJob.from_config(changed))
