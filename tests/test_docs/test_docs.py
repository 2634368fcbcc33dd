"""Files, commands and configs named in README and docs exist and match."""

import ast
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from detnas_mm import zoo
from detnas_mm.engine.export import Exporter
from detnas_mm.engine.launch import search_job
from detnas_mm.registry import SPACES, STRATEGIES, build_from
from detnas_mm.systems.mae_det.structure_files import write_file

from .commands import FENCE, ROOT, assert_images_as_trained, build, read_config

PAGES = {
    str(page.relative_to(ROOT)): page
    for pattern in ('*.md', 'docs/*.md', 'configs/*/README.md', 'benchmarks/*.md')
    for page in sorted(ROOT.glob(pattern))
}
FOLDERS = ('.ci', '.github', 'benchmarks', 'configs', 'detnas_mm', 'docs', 'examples', 'requirements', 'tests', 'tools')


def prose(page):
    """The text of a page without its fenced blocks."""
    return FENCE.sub('', page.read_text())


def slugs(page):
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r'^#+ (.+)$', prose(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', head.lower()).replace(' ', '-') for head in heads}


def unbraced(path):
    """``a_{b,c}.py`` → ``a_b.py``, ``a_c.py``."""
    found = re.search(r'\{([^{}]*)\}', path)
    if not found:
        return [path]
    return [out for one in found[1].split(',') for out in unbraced(path[: found.start()] + one + path[found.end() :])]


@pytest.mark.parametrize('name', PAGES)
def test_links_lead_somewhere(name):
    broken = []
    for target in re.findall(r'\]\(([^)\s]+)\)', prose(PAGES[name])):
        if re.match(r'\w+:', target):
            continue
        path, _, anchor = target.partition('#')
        page = PAGES[name].parent / path if path else PAGES[name]
        if not page.exists() or (anchor and anchor not in slugs(page)):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize('name', PAGES)
def test_paths_exist(name):
    """Of everything in backticks that begins with one of the project's folders."""
    spans = re.findall(r'`([^`]+)`', prose(PAGES[name]))
    words = {word.rstrip('.,:;') for span in spans for word in span.split()}
    paths = {path for word in words if word.split('/')[0] in FOLDERS and '/' in word for path in unbraced(word)}
    assert [path for path in sorted(paths) if not list(ROOT.glob(path.rstrip('/')))] == []


def test_pages_named_in_sources_exist():
    """In comments and texts of code, configs and tools, such as ``docs/search.md``."""
    page = re.compile(r'\b(?:docs|benchmarks)/[\w-]+\.md\b')
    missing = []
    for folder in ('benchmarks', 'configs', 'detnas_mm', 'examples', 'tests', 'tools'):
        for path in sorted((ROOT / folder).rglob('*.*')):
            if path.suffix in ('.py', '.sh', '.yml') and '.mim' not in path.parts:
                missing += [f'{path}: {name}' for name in page.findall(path.read_text()) if not (ROOT / name).is_file()]
    assert not missing


@pytest.mark.parametrize('name', PAGES)
def test_tables_are_whole(name):
    """Rows have as many cells as their table's head, each on a line of its own."""
    broken, cells = [], 0
    for line in prose(PAGES[name]).splitlines():
        here = len(re.split(r'(?<!\\)\|', line)) if line.startswith('|') else 0
        whole = line.endswith('|') and here == (cells or here) if here else not cells or not line.strip()
        broken += [] if whole else [line]
        cells = here
    assert not broken


# -- docs/detnas.md, mae_det.md, nats.md, sm_nas.md --------------------------------------------------------------------

DETNAS = ROOT / 'docs/detnas.md'
#: Pages that map a paper to code: fewest pairs of file and name, fewest rows.
MAPPINGS = {
    DETNAS: (60, 50),
    ROOT / 'docs/mae_det.md': (40, 30),
    ROOT / 'docs/nats.md': (25, 20),
    ROOT / 'docs/sm_nas.md': (45, 45),
}
PAIR = re.compile(r'`([\w./-]+\.py)`\s+`([\w.]+)`')
PAIRS = sorted({pair for page in MAPPINGS for pair in PAIR.findall(page.read_text())})


def resolve(path, symbol):
    """The object that a pair of file and name means; for tests the syntax is enough."""
    if path.startswith('detnas_mm/'):
        found = importlib.import_module(path.removesuffix('.py').replace('/', '.'))
        for part in symbol.split('.'):
            found = getattr(found, part)
        return found
    if path.startswith('configs/'):
        found = read_config(path)
        for part in symbol.split('.'):
            found = found[part]
        return found
    functions = {n.name: n for n in ast.parse((ROOT / path).read_text()).body if hasattr(n, 'name')}
    return functions[symbol]


@pytest.mark.parametrize('page', MAPPINGS, ids=lambda page: page.stem)
def test_the_page_has_pairs(page):
    assert len(set(PAIR.findall(page.read_text()))) > MAPPINGS[page][0]


@pytest.mark.parametrize('path', sorted({path for path, _ in PAIRS}))
def test_the_lines_of_code_are_there(path):
    for symbol in [symbol for p, symbol in PAIRS if p == path]:
        assert resolve(path, symbol) is not None, symbol


@pytest.mark.parametrize('page', MAPPINGS, ids=lambda page: page.stem)
def test_every_row_of_the_mapping_says_where(page):
    rows, head = [], ''
    for line in prose(page).splitlines():
        cells = [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
        if not cells:
            head = ''
        elif not head:
            head = cells
        elif 'here' in head and set(cells[0]) != {'-'}:
            assert len(cells) == 3 and all(cells), line
            rows.append(cells)
            assert PAIR.search(cells[1]), line
    assert len(rows) > MAPPINGS[page][1]


def test_the_configs_for_ones_own_detector(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for kind, text in FENCE.findall(DETNAS.read_text()):
        if kind == 'python':
            (tmp_path / re.match(r'# (\w+\.py)\n', text)[1]).write_text(text)
    supernet, search = (Config.fromfile(tmp_path / f'my_{what}.py') for what in ('supernet', 'search'))
    assert supernet.val_dataloader is None and supernet.custom_hooks
    assert_images_as_trained(supernet)
    model = build(supernet)
    job = search_job(search, 'supernet.pth')
    assert model.backbone.space.spec() == job.space.spec()
    assert tuple(model.neck.in_channels) == job.space.channels
    assert job.generations == 20 and job.strategy.population == 50
    training = Exporter(job).training
    assert training['train_cfg']['max_epochs'] > 0 and training['test_dataloader']


# -- docs/mae_det.md, docs/digits.md ----------------------------------------------------------------------------------


def test_scores_in_ones_own_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nets = [zoo.get(name).architecture() for name in ('maedet-s', 'maedet-m')]
    write_file('best_structure.txt', nets)
    (code,) = (text for kind, text in FENCE.findall((ROOT / 'docs/mae_det.md').read_text()) if kind == 'python')
    names = {}
    exec(code, names)
    assert names['score'].scores(names['read_file']('best_structure.txt')).tolist() == [
        names['score'].score(net) for net in nets
    ]


def test_data_sets_of_digits_in_ones_own_config(digits_folder):
    """As mmdet and mmpretrain read them."""
    blocks = [text for kind, text in FENCE.findall((ROOT / 'docs/digits.md').read_text()) if kind == 'python']
    sets = {}
    for text in (text for text in blocks if 'dataset = dict' in text):
        names = {}
        exec(text.replace('data/digits/', f'{digits_folder}/'), names)
        init_default_scope(names['dataset']['type'].partition('.')[0])
        pipeline = [] if 'mmpretrain' in text else [dict(type='mmdet.LoadAnnotations', with_bbox=True)]
        sets[names['dataset']['type']] = DATASETS.build(names['dataset'] | dict(pipeline=pipeline))
    assert len(sets) == 2 and all(len(one) > 100 for one in sets.values())
    assert {tuple(one.metainfo['classes']) for one in sets.values()} == {tuple('0123456789')}


# -- docs/nats.md -----------------------------------------------------------------------------------------------------


def test_a_search_by_gradient_with_ones_own_detector(tmp_path, monkeypatch):
    """The configs of the page, on a config of mmdet's: they are read, and their models, search and export fit."""
    page = (ROOT / 'docs/nats.md').read_text()
    for name in ('search', 'net'):
        text = re.search(rf'<!-- nats-{name} -->\n```python\n(.*?)^```$', page, re.MULTILINE | re.DOTALL)[1]
        (tmp_path / f'my_{name}.py').write_text(text)
    (tmp_path / 'my_detector.py').write_text("_base_ = 'mmdet::retinanet/retinanet_r50_fpn_1x_coco.py'\n")
    monkeypatch.chdir(tmp_path)
    cfg = Config.fromfile('my_search.py')
    job = search_job(cfg)
    supernet, net = build(cfg).backbone, build(Config.fromfile('my_net.py')).backbone
    supernet.check_space(job.space)
    assert {key for key in supernet.state_dict() if not key.endswith('.alpha')} == net.state_dict().keys()
    assert cfg.train_cfg.type == 'detnas_mm.AlternatingTrainLoop' and cfg.param_scheduler.keys() == {'weights', 'alpha'}
    assert cfg.train_dataloader.dataset.ann_file != cfg.train_cfg.alpha_dataloader.dataset.ann_file
    assert cfg.model.backbone.init_cfg == Config.fromfile('my_net.py').model.backbone.init_cfg


# -- docs/sm_nas.md ---------------------------------------------------------------------------------------------------

SM_NAS = (ROOT / 'docs/sm_nas.md').read_text()


@pytest.fixture
def searches(tmp_path, monkeypatch):
    """Reads the searches of the page as a user does who has typed them; work dirs are those of ``tools/search.py``."""
    monkeypatch.chdir(tmp_path)
    for name in ('stage1', 'stage2', 'parts', 'by-hand'):
        text = re.search(rf'<!-- smnas-{name} -->\n```python\n(.*?)^```$', SM_NAS, re.MULTILINE | re.DOTALL)[1]
        Path(f'my_{name}.py').write_text(text)

    def read(name):
        cfg = Config.fromfile(f'my_{name}.py')
        cfg.work_dir = f'work_dirs/my_{name}'
        return cfg

    return read


def exported(cfg, space, archs):
    """Leaves what a finished search leaves of some detectors."""
    folder = Path(cfg.work_dir)
    folder.mkdir(parents=True)
    searched = {key: value for key, value in cfg.to_dict().items() if key != 'search'}
    entries = []
    for number, arch in enumerate(map(space.parse, archs)):
        file = folder / f'rank{number}_{arch.id}.py'
        file.write_text(Config(space.configure(searched, arch), format_python_code=False).pretty_text)
        entries.append(dict(id=arch.id, arch=space.describe(arch), config=file.name))
    (folder / 'best.json').write_text(json.dumps(entries))


@pytest.mark.filterwarnings('ignore:search.space.seeds. left out')
def test_both_stages_on_ones_own_data(searches):
    """They parse; the second begins with the first one's front, and trains, judges and measures as the first."""
    first, second = searches('stage1'), searches('stage2')
    job = search_job(first)
    found = ['800x600/resnet50/fpn-p2-p5-256/rpn/cascade2', '512x512/mobilenetv2/fpn-p2-p5-128/none/retinanet']
    exported(first, job.space, found)
    after = search_job(second)
    assert [after.space.describe(arch) for arch in after.space.starting_points] == [
        'seed1:bottleneck_64_111-2111-211111-211_256'
    ]
    assert len(after.space.left_out) == 1
    assert job.generations * job.strategy.population == 100 and after.strategy.population == 10
    assert after.evaluator.workers.count == 2 and after.objectives == job.objectives
    own = [cfg.search.costs.latency for cfg in (first, second)]
    assert own[0] == own[1] and own[0].device == 'cpu'
    for cfg in (first, second):
        sets = [cfg[f'{part}_dataloader'].dataset for part in ('train', 'val', 'test')]
        assert [one.data_root for one in sets] == ['data/mine/'] * 3
        assert [Path(one.ann_file).stem for one in sets] == ['my_train', 'my_search_val', 'my_test']
        assert all(one.metainfo.classes == ('cat', 'dog') for one in sets)
        for part, one in zip(('val', 'test'), sets[1:], strict=True):
            assert cfg[f'{part}_evaluator'].ann_file == one.data_root + one.ann_file
        assert cfg.param_scheduler[1].milestones[-1] < cfg.train_cfg.max_iters == cfg.train_cfg.val_interval
    names = shlex.split(re.search(r'split_coco\.py (.*?)```', SM_NAS, re.DOTALL)[1].replace('\\\n', ' '))
    assert names[-2:] == ['my_train', 'my_search_val']


def test_ones_own_parts_go_together(searches):
    """Each is in a combination; ``search_job`` builds detectors until each was in one."""
    job = search_job(searches('parts'))
    counts = {factor: len(values) for factor, values in job.space.table.items()}
    assert counts == dict(size=2, backbone=3, neck=3, rpn=2, head=3)
    model = job.space.configure({}, job.space.parse('640x640/res2net/fpn-p2-p6-128/none/fcos'))['model']
    assert model['neck']['in_channels'] == [512, 1024, 2048] and model['neck']['num_outs'] == 5
    assert model['bbox_head']['strides'] == [8, 16, 32, 64, 128] and model['bbox_head']['num_classes'] == 2


def test_detectors_by_hand_are_those_of_the_space(searches):
    section = searches('by-hand').search
    space, strategy = build_from(SPACES, section.space), build_from(STRATEGIES, section.strategy)
    assert [space.describe(space.parse(arch)) for arch in strategy.archs] == list(section.strategy.archs)
    assert section.budget.generations == 1
