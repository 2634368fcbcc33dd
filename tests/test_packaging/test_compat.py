"""Each unsupported stack gets one sentence with the command that fixes it; checkpoints load without running code."""

import configparser
import os
import pickle
import re
import sys
import types
from pathlib import Path

import pytest

from detnas_mm import checkpoints, compat

ROOT = Path(__file__).resolve().parents[2]
ONEDL = {
    'torch': '2.10.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
}
OPENMMLAB = {'torch': '2.10.0', 'mmengine': '0.10.7', 'mmcv': '2.1.0', 'mmdet': '3.3.0', 'mmpretrain': '1.2.0'}


@pytest.fixture
def installed(monkeypatch):
    """Pretends that exactly these distributions are installed, and checks the stack again."""

    def pretend(versions):
        monkeypatch.setattr(compat, 'installed_version', versions.get)
        monkeypatch.setattr(compat.importlib.util, 'find_spec', lambda name: None)
        monkeypatch.setattr(compat, '_check_operators', lambda family: None)
        compat.check_stack.cache_clear()

    yield pretend
    compat.check_stack.cache_clear()


@pytest.mark.parametrize(('versions', 'family'), [(ONEDL, 'onedl'), (OPENMMLAB, 'openmmlab')])
def test_tried_versions_pass(installed, versions, family):
    installed(versions)
    assert compat.check_stack() == family


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'torch': None}, "torch is not installed; fix this environment with: pip install 'torch>="),
        ({'torch': '2.1.0'}, 'torch 2.1.0 is installed, not >='),
        (
            {'onedl-mmdetection': None},
            "(onedl-mmdetection) is not installed; .* pip install 'onedl-mmdetection>=",
        ),
        ({'onedl-mmpretrain': '1.2.0'}, 'onedl-mmpretrain 1.2.0 is installed, not >=1.3.6,<2; '),
        ({'onedl-mmcv': '2.4.0'}, 'onedl-mmcv 2.4.0 is installed, .*MMCV_WITH_OPS=1 pip install --no-build-isolation'),
        ({'mmcv': '2.1.0'}, 'and mmcv are installed side by side .* DETNAS_VENV=<new folder> bash tools/setup_env.sh'),
    ],
)
def test_unfit_stack_is_one_sentence_with_a_command(installed, change, said):
    installed({name: found for name, found in (ONEDL | change).items() if found})
    with pytest.raises(compat.StackError, match=re.escape(said).replace(r'\.\*', '.*')) as error:
        compat.check_stack()
    assert '\n' not in str(error.value)
    assert 'bash tools/setup_env.sh' in str(error.value)


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (ModuleNotFoundError("No module named 'mmcv._ext'"), 'has no compiled operators'),
        (ImportError('undefined symbol: _ZN3c10'), 'cannot load its compiled operators (undefined symbol'),
    ],
)
def test_mmcv_without_working_operators(monkeypatch, error, said):
    def import_module(name):
        if name == 'mmcv._ext':
            raise error

    monkeypatch.setattr(compat.importlib, 'import_module', import_module)
    with pytest.raises(compat.StackError, match=re.escape(said)) as caught:
        compat._check_operators('onedl')
    assert 'MMCV_WITH_OPS=1 pip install' in str(caught.value)


@pytest.mark.smoke
def test_the_stack_in_use_passes():
    compat.check_stack.cache_clear()
    assert compat.check_stack() in compat.FAMILIES


def test_a_gpu_without_operators_for_it_runs_on_the_cpu(monkeypatch, caplog):
    import mmengine.device.utils as device
    import torch

    class ExtensionForCpu:
        @staticmethod
        def get_compiling_cuda_version():
            return 'not available'

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(device, 'DEVICE', 'cuda')
    assert not compat.cuda_usable(ExtensionForCpu)
    compat._fall_back_to_cpu()
    assert device.get_device() == 'cpu'
    assert 'compiled without CUDA: running on the CPU' in caplog.text


@pytest.mark.parametrize('family', compat.FAMILIES)
def test_ranges_equal_those_of_setup_cfg_and_requirements(family):
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    extra = config['options.extras_require'][family].split()
    path = ROOT / ('requirements.txt' if family == 'onedl' else 'requirements/openmmlab.txt')
    listed = [line.split('#')[0].strip() for line in path.read_text().splitlines()]
    for distribution, lowest, ceiling in compat.FAMILIES[family].values():
        assert f'{distribution}>={lowest},<{ceiling}' in extra
    assert {name for name in listed if name} == {*extra, *config['options']['install_requires'].split()}
    assert f'torch>={compat.TORCH_MINIMUM}' in extra


class RunsCode:
    def __reduce__(self):
        return os.system, ('true',)


@pytest.mark.smoke
class TestLoadCheckpointFile:
    def test_mmengines_own_checkpoint(self, tmp_path):
        import numpy as np
        import torch
        from mmengine.logging import MessageHub

        hub = MessageHub('test_load_checkpoint_file')
        hub.update_scalar('train/loss', 0.5)
        hub.update_scalar('train/loss', np.float32(0.25))
        hub.update_info('iter', np.int64(3))
        path = tmp_path / 'iter_3.pth'
        torch.save({'state_dict': {'w': torch.ones(2)}, 'message_hub': hub.state_dict(), 'meta': {'iter': 3}}, path)

        loaded = checkpoints.load_checkpoint_file(path)
        assert loaded['state_dict']['w'].tolist() == [1, 1]
        assert loaded['message_hub']['log_scalars']['train/loss'].data[0].tolist() == [0.5, 0.25]
        assert torch.load(path)['meta'] == {'iter': 3}  # as the upstream mmengine loads it

    def test_code_is_refused_unless_trusted(self, tmp_path):
        import torch

        path = tmp_path / 'unknown.pth'
        torch.save({'state_dict': {}, 'meta': RunsCode()}, path)
        with pytest.raises(ValueError, match='was not loaded .*--trust-checkpoint') as error:
            checkpoints.load_checkpoint_file(path)
        assert str(path) in str(error.value)
        assert 'weights_only' not in str(error.value) and 'you have two options' not in str(error.value)
        assert checkpoints.load_checkpoint_file(path, trust=True)['meta'] == 0

    def test_torchs_advice_to_load_regardless_is_left_out(self, tmp_path):
        (tmp_path / 'text.pth').write_text('no checkpoint')
        with pytest.raises(ValueError, match='Unsupported operand 110. Copy or save it again.$') as error:
            checkpoints.load_checkpoint_file(tmp_path / 'text.pth')
        assert 'weights_only' not in str(error.value)

    def test_damaged_file(self, tmp_path):
        path = tmp_path / 'damaged.pth'
        path.write_bytes(pickle.dumps('x')[:3])
        # Whatever bytes there are, torch reads them as instructions; these ended in errors of other kinds.
        for content in (path.read_bytes(), b'hello', b'b90', b'j_', b'c\x84\x06h-'):
            path.write_bytes(content)
            for trust in (False, True):
                with pytest.raises(ValueError, match=r'damaged\.pth.*[a-zA-Z]{4}'):
                    checkpoints.load_checkpoint_file(path, trust=trust)

    @pytest.mark.parametrize('legacy', [False, True])
    def test_damaged_bytes_are_told_from_other_classes(self, tmp_path, legacy):
        import torch

        path = tmp_path / 'a.pth'
        kept = dict(state_dict={f'{i}': torch.ones(9) for i in range(9)})
        settings = dict(_use_new_zipfile_serialization=not legacy)
        torch.save(kept, path, **settings)
        whole, seen = path.read_bytes(), set()
        assert checkpoints.load_checkpoint_file(path)['state_dict'].keys() == kept['state_dict'].keys()
        for place in range(64, len(whole), 37):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xA5]) + whole[place + 1 :])
            try:
                found = checkpoints.load_checkpoint_file(path)['state_dict']
                seen.add(all(torch.equal(found[key], value) for key, value in kept['state_dict'].items()))
            except ValueError as error:
                seen.add(str(error))
            except (KeyError, TypeError):  # other names, which only weights_in and the model can know
                assert legacy
        texts = {one for one in seen if isinstance(one, str)}
        assert any('is damaged or truncated: ' in text and text.endswith('again.') for text in texts)
        if not legacy:  # which has no checksums
            assert not any('trust' in text for text in texts) and False not in seen, seen
            assert any('the checksum of a/data/0 in it is wrong' in text for text in texts)
        torch.save(kept | dict(meta=RunsCode()), path, **settings)
        with pytest.raises(ValueError, match=r'more than tensors and plain values.*--trust-checkpoint') as error:
            checkpoints.load_checkpoint_file(path)
        assert 'is damaged' not in str(error.value)

    def test_files_without_checksums_are_read(self, tmp_path):
        import torch

        torch.serialization.set_crc32_options(False)
        try:
            torch.save(dict(a=torch.ones(3)), tmp_path / 'a.pth')
        finally:
            torch.serialization.set_crc32_options(True)
        assert checkpoints.load_checkpoint_file(tmp_path / 'a.pth')['a'].sum() == 3

    def test_a_class_that_is_not_here_is_named(self, tmp_path, monkeypatch):
        import torch

        module = types.ModuleType('gone')
        module.Gone = type('Gone', (), dict(__module__='gone'))
        monkeypatch.setitem(sys.modules, 'gone', module)
        torch.save(dict(meta=module.Gone()), tmp_path / 'a.pth')
        monkeypatch.delitem(sys.modules, 'gone')
        with pytest.raises(
            ValueError, match="object of a class that is not installed: No module named 'gone'. Install"
        ):
            checkpoints.load_checkpoint_file(tmp_path / 'a.pth', trust=True)

    def test_a_page_in_the_place_of_a_file(self, tmp_path):
        (tmp_path / 'page.pth').write_text('<!DOCTYPE html><html>')
        with pytest.raises(
            ValueError, match='is not a checkpoint: it is text that begins with .<!DOCTYPE html>'
        ) as error:
            checkpoints.load_checkpoint_file(tmp_path / 'page.pth')
        assert 'trust' not in str(error.value)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match='there is no checkpoint'):
            checkpoints.load_checkpoint_file(tmp_path / 'none.pth')
