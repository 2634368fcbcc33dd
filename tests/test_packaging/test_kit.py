"""The contributor's kit: forms, hooks, workflow, citation and changelog are well formed and agree with the project."""

import re
import shlex
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

from detnas_mm.search.ledger import SCHEMA
from detnas_mm.version import __version__

ROOT = Path(__file__).resolve().parents[2]
FORMS = sorted(path for path in (ROOT / '.github/ISSUE_TEMPLATE').glob('*.yml') if path.stem != 'config')


def read(path):
    return yaml.safe_load((ROOT / path).read_text())


@pytest.mark.parametrize('path', FORMS, ids=lambda path: path.stem)
def test_issue_form(path):
    """GitHub silently leaves out a form that lacks a required field."""
    form = yaml.safe_load(path.read_text())
    assert {'name', 'description', 'body'} <= form.keys()
    fields = [field for field in form['body'] if field['type'] != 'markdown']
    ids = [field['id'] for field in fields]
    assert fields and len(set(ids)) == len(ids) and all(field['attributes']['label'] for field in fields)
    assert any(field.get('validations', {}).get('required') for field in fields)


def test_the_form_for_faults_asks_for_what_is_needed():
    fields = {field.get('id'): field for field in read('.github/ISSUE_TEMPLATE/bug.yml')['body']}
    for name, words in dict(ledger='ledger.jsonl', log='log file').items():
        assert words in fields[name]['attributes']['description'] and fields[name]['validations']['required']


def test_the_workflow_runs_the_gate():
    workflow = read('.github/workflows/ci.yml')
    steps = [step['run'] for job in workflow['jobs'].values() for step in job['steps'] if 'run' in step]
    assert 'bash .ci/run' in steps


def test_pythons_agree():
    """In setup.cfg, README, docs/versions.md, the set-up and the workflow."""
    settings = ConfigParser()
    settings.read(ROOT / 'setup.cfg')
    low, below = re.fullmatch(r'>=3\.(\d+),<3\.(\d+)', settings['options']['python_requires']).groups()
    accepted = [f'3.{minor}' for minor in range(int(low), int(below))]
    span = f'{accepted[0]} to {accepted[-1]}'
    for path in ('README.md', 'docs/versions.md', 'tools/setup_env.sh'):
        assert re.search(f'Python (from )?{span}', ' '.join((ROOT / path).read_text().split())), path
    workflow = read('.github/workflows/ci.yml')['jobs']['gate']['strategy']['matrix']['python']
    tried = re.search(r'^\| Python \| ([^|]+) \|', (ROOT / 'docs/versions.md').read_text(), re.MULTILINE)[1]
    classifiers = re.findall(r'Python :: (3\.\d+)$', settings['metadata']['classifiers'], re.MULTILINE)
    assert workflow == classifiers == tried.strip().split(', ') and set(workflow) <= set(accepted)


def test_pre_commit_runs_the_linters_of_the_tests():
    """Local hooks, so that the versions are those of the environment."""
    (repo,) = read('.pre-commit-config.yaml')['repos']
    assert repo['repo'] == 'local'
    lint = (ROOT / 'tools/run_tests.sh').read_text().partition('lint() {')[2].partition('\n}')[0]
    for hook in repo['hooks']:
        assert hook['language'] == 'system'
        python, option, what, *_ = shlex.split(hook['entry'])
        assert python == 'python' and option in ('-m', '-c') and what in lint
    assert {'ruff-check', 'ruff-format', 'mypy', 'import-linter'} == {hook['id'] for hook in repo['hooks']}


def test_citation():
    cited = read('CITATION.cff')
    assert cited['cff-version'] == '1.2.0' and cited['version'] == __version__ and cited['license'] == 'Apache-2.0'
    systems = {path.parent.name for path in (ROOT / 'detnas_mm/systems').glob('*/__init__.py')}
    papers = {re.search(r'The system (\w+)\.', paper['notes'])[1]: paper for paper in cited['references']}
    assert papers.keys() == systems
    for system, paper in papers.items():
        first = paper['authors'][0]['family-names']
        page = ' '.join((ROOT / f'docs/{system}.md').read_text().split())
        assert paper['url'] in page and f'{first} et al.' in page and f'{paper["title"]}](' in page


def test_changelog():
    text = (ROOT / 'CHANGELOG.md').read_text()
    heads = re.findall(r'^## \[(.+?)\]', text, re.MULTILINE)
    assert heads[0] == 'Unreleased' and (len(heads) == 1 or heads[1] == __version__)
    assert f'{SCHEMA} at present' in text


def test_the_package_is_typed():
    assert (ROOT / 'detnas_mm/py.typed').is_file()
    assert re.search(r'^    py\.typed$', (ROOT / 'setup.cfg').read_text(), re.MULTILINE)
