import importlib

import pytest
import torch
from torch import nn

from detnas_mm.evaluators.one_shot import bn_recalibration as bn


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    )
    net[5].eval()
    return net


@torch.no_grad()
def collect(model, batches, forward):
    noted = {}
    with bn.recording(model, bn.trained_norms(model)) as into:
        for number, data in batches:
            into(noted.setdefault(number, []))
            forward(data)
    return dict(zip(noted, bn.packed(list(noted.values())), strict=True))


def batches(count=3):
    generator = torch.Generator().manual_seed(1)
    return [(i, torch.randn(4, 3, 8, 8, generator=generator)) for i in range(count)]


def test_the_definition():
    net = small_net()
    statistics = bn.average(collect(net, batches(), net))
    with torch.no_grad():
        first = [net[0](x) for _, x in batches()]
        inner = [
            net[4](nn.functional.relu(nn.functional.batch_norm(x, None, None, net[1].weight, net[1].bias, True)))
            for x in first
        ]
    for name, inputs in (('1', first), ('5', inner)):
        mean = torch.stack([x.double().mean((0, 2, 3)) for x in inputs]).mean(0)
        var = torch.stack([x.double().var((0, 2, 3)) for x in inputs]).mean(0)
        torch.testing.assert_close(statistics[name][0].double(), mean, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(statistics[name][1].double(), var, rtol=1e-5, atol=1e-6)
        assert statistics[name][0].dtype == torch.float32


def test_splitting_the_batches_gives_the_same_bits():
    net = small_net()
    whole = bn.average(collect(net, batches(5), net))
    parts = collect(net, batches(5)[1::2], net) | collect(net, batches(5)[0::2], net)
    split = bn.average(parts)
    assert all(torch.equal(a, b) for name in whole for a, b in zip(whole[name], split[name]))


def test_frozen_layers_normalise_by_their_running_statistics_and_keep_them():
    net = small_net()
    frozen = net[1]
    frozen.running_mean.uniform_(-1, 1), frozen.running_var.uniform_(0.5, 2), frozen.num_batches_tracked.fill_(3)
    frozen.train = lambda mode=True: nn.Module.train(frozen, False)
    before = {key: value.clone() for key, value in frozen.state_dict().items()}
    found = bn.average(collect(net, batches(), net))
    assert found.keys() == {'5'} and not frozen.training
    assert all(torch.equal(frozen.state_dict()[key], value) for key, value in before.items())
    with torch.no_grad():
        normal = [
            (net[0](x) - before['running_mean'][:, None, None]).div(
                (before['running_var'] + frozen.eps).sqrt()[:, None, None]
            )
            for _, x in batches()
        ]
        inner = [net[4](x.relu()) for x in normal]
    for own, wanted in zip(found['5'], ([x.mean((0, 2, 3)) for x in inner], [x.var((0, 2, 3)) for x in inner])):
        torch.testing.assert_close(own, torch.stack(wanted).mean(0), rtol=1e-4, atol=1e-5)


RESNET = dict(depth=18, num_stages=2, strides=(1, 2), dilations=(1, 1), out_indices=(1,))
ALL_OF_TWO_STAGES = {
    'bn1',
    *(f'layer{s}.{b}.bn{n}' for s in (1, 2) for b in (0, 1) for n in (1, 2)),
    'layer2.0.downsample.1',
}


@pytest.mark.parametrize('family', ['mmdet.models.backbones', 'mmpretrain.models.backbones'])
@pytest.mark.parametrize(
    ('settings', 'frozen'),
    [
        (dict(norm_eval=False), ()),
        (dict(norm_eval=False, norm_cfg=dict(type='BN', requires_grad=False)), ()),
        (dict(norm_eval=False, frozen_stages=1), ('bn1', 'layer1.')),
        (dict(norm_eval=True), ('bn1', 'layer')),
    ],
)
def test_the_model_says_which_layers_were_frozen(family, settings, frozen):
    net = importlib.import_module(family).ResNet(**RESNET, **settings)
    net.eval()
    net.layer1.train()
    modes = [module.training for module in net.modules()]
    assert bn.batch_norms(net).keys() == ALL_OF_TWO_STAGES
    assert bn.trained_norms(net).keys() == {name for name in ALL_OF_TWO_STAGES if not name.startswith(frozen)}
    assert [module.training for module in net.modules()] == modes


def test_layers_that_run_twice_count_twice_and_idle_ones_are_left_out():
    net, idle = small_net(), nn.BatchNorm2d(2)
    model = nn.ModuleList([net, idle])
    collected = collect(model, batches(2), lambda x: (net[:2](x), net[:2](2 * x)))
    assert [layout for layout, _ in collected.values()] == [(('0.1', 4), ('0.1', 4))] * 2
    with torch.no_grad():
        maps = [net[0](factor * x) for _, x in batches(2) for factor in (1, 2)]
    for found, wanted in zip(
        bn.average(collected)['0.1'], ([m.mean((0, 2, 3)) for m in maps], [m.var((0, 2, 3)) for m in maps]), strict=True
    ):
        torch.testing.assert_close(found, torch.stack(wanted).mean(0), rtol=1e-5, atol=1e-6)


def test_batches_in_which_other_layers_ran():
    """A layer's mean is over the batches in which it ran, whatever else ran in them."""
    both, one = torch.nn.BatchNorm2d(2), torch.nn.BatchNorm2d(1)
    model = nn.ModuleList([both, one])
    data = [(0, torch.randn(2, 2, 3, 3)), (1, torch.randn(2, 2, 3, 3))]

    def forward(x):
        both(x)
        if x is data[1][1]:
            one(x[:, :1])

    found = bn.average(collect(model, data, forward))
    torch.testing.assert_close(found['1'][0], data[1][1][:, :1].mean((0, 2, 3)))
    torch.testing.assert_close(found['0'][0], (data[0][1].mean((0, 2, 3)) + data[1][1].mean((0, 2, 3))) / 2)


def test_arrays_are_pieces_of_their_own_and_empty_where_nothing_ran():
    """Pickled for other ranks, a piece brings nothing but itself."""
    one = torch.ones(3)
    found = bn.packed([[], [('a', one, 2 * one), ('b', one[:1], one[:1])], [('a', 3 * one, 4 * one)]])
    assert [layout for layout, _ in found] == [(), (('a', 3), ('b', 1)), (('a', 3),)]
    assert [values.tolist() for _, values in found] == [[], [1, 1, 1, 2, 2, 2, 1, 1], [3, 3, 3, 4, 4, 4]]
    assert all(values.base is None for _, values in found) and bn.packed([]) == []
    assert bn.average({0: found[0], 1: found[0]}) == {}


def test_all_is_restored_even_after_an_error():
    net = small_net()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    modes, momenta = [m.training for m in net.modules()], [net[1].momentum, net[5].momentum]
    with pytest.raises(KeyError), bn.restored(net):
        bn.apply(bn.batch_norms(net), bn.average(collect(net, batches(), net)))
        assert not torch.equal(net[1].running_mean, before['1.running_mean'])
        raise KeyError
    assert all(torch.equal(net.state_dict()[k], v) for k, v in before.items())
    assert [m.training for m in net.modules()] == modes
    assert [net[1].momentum, net[5].momentum] == momenta


class Adapting(nn.Module):
    """Changes the threshold in training, as Dynamic R-CNN's RoI head does."""

    def __init__(self):
        super().__init__()
        self.iou_history, self.beta_history, self.threshold = [0.25], [0.5], 0.4

    def update_hyperparameters(self):
        self.threshold, self.iou_history = max(self.iou_history), []
        return self.threshold, 1.0

    def loss(self):
        self.iou_history.append(0.75)
        self.beta_history.append(0.75)
        _, _ = self.update_hyperparameters()


def test_a_head_that_adapts_to_what_it_sees_does_not_meanwhile():
    model = nn.Module()
    model.roi_head = head = Adapting()
    with bn.without_adaptation(model):
        for _ in range(3):
            head.loss()
    assert (head.threshold, head.iou_history, head.beta_history) == (0.4, [0.25], [0.5])
    head.loss()
    assert head.threshold == 0.75
    with bn.without_adaptation(nn.Linear(1, 1)):
        pass


def test_sync_bn_runs_as_plain_bn_inside_and_as_itself_after():
    net = nn.SyncBatchNorm.convert_sync_batchnorm(small_net())
    with bn.local_batch_norm(net):
        synced = bn.average(collect(net, batches(), net))
    assert 'forward' not in vars(net[1])
    plain = small_net()
    expected = bn.average(collect(plain, batches(), plain))
    assert all(torch.equal(a, b) for name in expected for a, b in zip(synced[name], expected[name]))


def test_what_is_not_finite_is_named():
    fine, broken = torch.ones(2), torch.tensor([1.0, float('inf')])
    assert bn.not_finite({'a': (fine, fine), 'b': (fine, broken)}) == ['b']
