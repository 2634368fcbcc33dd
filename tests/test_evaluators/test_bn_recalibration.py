import pytest
import torch
from torch import nn

from detnas_mm.evaluators import bn_recalibration as bn


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5)
    )
    net[5].eval()  # as norm_eval and frozen stages do
    return net


@torch.no_grad()
def collect(model, batches, forward):
    collected = {}
    with bn.recording(model) as into:
        for number, data in batches:
            into(collected.setdefault(number, {}))
            forward(data)
    return collected


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


def test_layers_that_run_twice_count_twice_and_idle_ones_are_left_out():
    net, idle = small_net(), nn.BatchNorm2d(2)
    model = nn.ModuleList([net, idle])
    collected = collect(model, batches(1), lambda x: (net[:2](x), net[:2](2 * x)))
    assert list(collected[0]) == ['0.1']
    assert len(collected[0]['0.1']) == 2


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


def test_statistics_come_to_the_cpu_each_in_a_piece_of_its_own():
    """Pickled for other ranks, a piece brings nothing but itself."""
    first, second = (torch.arange(n).float() for n in (3, 2))
    noted = [{}, {'a': [(first, first + 1)]}, {'a': [(second, second + 1), (second + 2, second + 3)], 'b': []}]
    bn.to_cpu(noted)
    assert noted[0] == {} and noted[2]['b'] == [] and len(noted[2]['a']) == 2
    for pairs, wanted in ((noted[1]['a'], (first, first + 1)), (noted[2]['a'][1:], (second + 2, second + 3))):
        for value, other in zip(pairs[0], wanted, strict=True):
            assert torch.equal(value, other)
            assert value.untyped_storage().nbytes() == value.nbytes
    bn.to_cpu([{}])
