"""Small supernets with large kernels, random images and searches of EDO, put together in code."""

import torch
from mmengine.registry import DATASETS
from torch import nn

from detnas_mm.registry import MODELS
from detnas_mm.search import Budget, Ledger, Objective, SearchJob
from detnas_mm.systems.nats import DilationSpace
from detnas_mm.systems.nats.evaluators import RepresentationError
from detnas_mm.systems.nats.strategies import EDOStrategy
from tests.test_nats.nets import cfg_of, randomize, rng


def enlarged_cfg(name, **settings):
    cfg = cfg_of(name)
    return dict(cfg, type='detnas_mm.EnlargedBackbone', plain=cfg['type'], **settings)


@torch.no_grad()
def planted(name, d_max, **settings):
    """A supernet whose kernels hold one dilation a group and zeros elsewhere; the net with these; architecture, space.

    With ``noise`` there is something small elsewhere.
    """
    noise = settings.pop('noise', 0.0)
    space = DilationSpace(cfg_of(name), preset='ic-conv', genotypes=d_max, **settings)
    arch = space.sample(rng(3))
    cfg = space.configure(dict(model=dict(backbone=cfg_of(name))), arch)['model']['backbone']
    fixed = randomize(MODELS.build(cfg))
    large = MODELS.build(enlarged_cfg(name, d_max=d_max))
    state = {key: value.clone() for key, value in fixed.state_dict().items()}
    draw = torch.Generator().manual_seed(4)
    for conv, dilations in zip(space.convs, space.dilations(arch), strict=True):
        key = f'{conv.name}.weight'
        small = state[key]
        whole = torch.randn(*small.shape[:2], 2 * d_max + 1, 2 * d_max + 1, generator=draw) * noise
        for channel, (d_h, d_w) in enumerate(dilations):
            rows, columns = (torch.tensor([d_max - d, d_max, d_max + d]) for d in (d_h, d_w))
            whole[channel, :, rows[:, None], columns] = small[channel]
        state[key] = whole
    large.load_state_dict(state)
    large.eval()
    return large, fixed, arch, space


@DATASETS.register_module(name='EDOImages')
class Images:
    """Random images of given sizes, without labels."""

    metainfo = dict(classes=('a',))

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def get_data_info(self, index):
        return dict(img_path=f'{index}.png', size=self.sizes[index])

    def __getitem__(self, index):
        draw = torch.Generator().manual_seed(index)
        return dict(inputs=torch.rand(3, *self.sizes[index], generator=draw), data_samples=None)


class Model(nn.Module):
    """A model with a backbone and a preprocessor, as classifiers and detectors have."""

    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone

    @staticmethod
    def data_preprocessor(data, training):
        return dict(inputs=torch.stack(list(data['inputs'])))


def evaluator(statistic='mean_map', sizes=((96, 96),) * 6, batch_size=2, **settings):
    loader = dict(batch_size=batch_size, dataset=dict(type='EDOImages', sizes=list(sizes)))
    return RepresentationError(loader, statistic=statistic, **settings)


def job_of(space, scored, **changes):
    objectives = changes.pop('objectives', [Objective('representation_error', 'minimize')])
    budget = changes.pop('budget', None) or Budget(space, {})
    settings = dict(strategy=EDOStrategy(), evaluator=scored, log=lambda text: None, show_progress=False)
    return SearchJob(space, objectives, budget, **(settings | changes))


def run(job, model, path=None):
    job.prepare()
    job.evaluator.setup(job, model)
    with Ledger(path, job.header()) as ledger:
        return job.strategy.run(job.evaluator, ledger)
