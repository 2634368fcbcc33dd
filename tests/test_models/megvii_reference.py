"""The DetNAS authors' network, written again from the description of their key layout, for tests to compare with.

Shares nothing with the package: tensors come straight from a state dict under the authors' keys, and layers are
functions. Slow and plain on purpose.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F

OPS = ('shufflenet_3x3', 'shufflenet_5x5', 'shufflenet_7x7', 'xception_3x3')


# -- a checkpoint with random numbers, such as their code would write ------------------------------------------------


def make_state_dict(stem, channels, blocks, arch=None, last=None, classes=None, seed=0, counters=True):
    """A checkpoint of a fixed net (``arch``: one digit a block) or of a supernet (None)."""
    generator = torch.Generator().manual_seed(seed)
    sd = OrderedDict()

    def conv(key, cout, cin, kernel, bias=False):
        sd[f'{key}.weight'] = torch.randn(cout, cin, kernel, kernel, generator=generator) / (cin * kernel**2) ** 0.5
        if bias:
            sd[f'{key}.bias'] = torch.randn(cout, generator=generator)

    def bn(key, width):
        sd[f'{key}.weight'] = torch.rand(width, generator=generator) + 0.5
        sd[f'{key}.bias'] = torch.randn(width, generator=generator)
        sd[f'{key}.running_mean'] = torch.randn(width, generator=generator) / 2
        sd[f'{key}.running_var'] = torch.rand(width, generator=generator) + 0.5
        if counters:
            sd[f'{key}.num_batches_tracked'] = torch.tensor(11)

    def unit(where, place, op, cin, cout, first):
        name = f'{place}_{op}_branch2'
        half = cout // 2
        into, out = (cin, cout - cin) if first else (half, half)
        if op == 'xception_3x3':
            for j, (suffix, a, b) in enumerate((('a', into, half), ('b', half, half), ('c', half, out))):
                conv(f'{where}.conv.{j}.interstellar{name}{suffix}_s', a, 1, 3)
                bn(f'{where}.conv.{j}.interstellar{name}{suffix}_s_bn', a)
                conv(f'{where}.conv.{j}.interstellar{name}{suffix}', b, a, 1)
                bn(f'{where}.conv.{j}.bn{name}{suffix}', b)
        else:
            conv(f'{where}.conv.0.interstellar{name}a', half, into, 1)
            bn(f'{where}.conv.0.bn{name}a', half)
            conv(f'{where}.conv.1.interstellar{name}b_s', half, 1, int(op[-1]))
            bn(f'{where}.conv.1.interstellar{name}b_s_bn', half)
            conv(f'{where}.conv.1.interstellar{name}b', out, half, 1)
            bn(f'{where}.conv.1.bn{name}b', out)
        if first:
            conv(f'{where}.proj_conv.interstellar{place}_proj_s', cin, 1, int(op[-1]))
            bn(f'{where}.proj_conv.interstellar{place}_proj_s_bn', cin)
            conv(f'{where}.proj_conv.interstellar{place}_proj', cin, cin, 1)
            bn(f'{where}.proj_conv.bn{place}_proj', cin)

    conv('first_conv.conv', stem, 3, 3, bias=True)
    bn('first_conv.bn', stem)
    number, cin = 0, stem
    for stage, (cout, depth) in enumerate(zip(channels, blocks, strict=True), 1):
        for letter in 'abcdefghijklmnop'[:depth]:
            if arch is None:
                for k, op in enumerate(OPS):
                    unit(f'features.{number}.{k}', f'{stage}{letter}', op, cin, cout, letter == 'a')
            else:
                unit(f'features.{number}', f'{stage}{letter}', OPS[int(arch[number])], cin, cout, letter == 'a')
            number, cin = number + 1, cout
    if last:
        conv('last_conv.conv', last, cin, 1, bias=True)
        bn('last_conv.bn', last)
    if classes:
        sd['fc.fc.weight'] = torch.randn(classes, last, generator=generator) / last**0.5
        sd['fc.fc.bias'] = torch.randn(classes, generator=generator)
    return sd


# -- the forward pass -------------------------------------------------------------------------------------------------


def forward(sd, x, blocks, split, path=None):
    """Runs a checkpoint in evaluation mode.

    Returns (stage outputs, logits or None). ``path`` picks a supernet's operations.
    """

    def conv(x, key, stride=1):
        weight = sd[f'{key}.weight']
        groups = x.shape[1] if weight.shape[1] == 1 and x.shape[1] > 1 else 1
        return F.conv2d(x, weight, sd.get(f'{key}.bias'), stride, weight.shape[-1] // 2, groups=groups)

    def bn(x, key):
        names = ('running_mean', 'running_var', 'weight', 'bias')
        return F.batch_norm(x, *(sd[f'{key}.{name}'] for name in names), training=False)

    def deal(x):
        if split == 'even_odd':
            return x[:, 0::2], x[:, 1::2]
        half = x.shape[1] // 2
        order = [channel for pair in zip(range(half), range(half, 2 * half), strict=True) for channel in pair]
        return x[:, order[:half]], x[:, order[half:]]

    def unit(x, where, place, first):
        (op,) = {op for op in OPS for key in sd if key.startswith(f'{where}.conv.0.bn{place}_{op}_branch2a')}
        name = f'{place}_{op}_branch2'
        stride = 2 if first else 1
        if first:
            proj = f'{where}.proj_conv.'
            kept = bn(conv(x, f'{proj}interstellar{place}_proj_s', 2), f'{proj}interstellar{place}_proj_s_bn')
            kept = F.relu(bn(conv(kept, f'{proj}interstellar{place}_proj'), f'{proj}bn{place}_proj'))
        else:
            kept, x = deal(x)
        if op == 'xception_3x3':
            for j, suffix in enumerate('abc'):
                key = f'{where}.conv.{j}.interstellar{name}{suffix}'
                x = bn(conv(x, f'{key}_s', stride if j == 0 else 1), f'{key}_s_bn')
                x = F.relu(bn(conv(x, key), f'{where}.conv.{j}.bn{name}{suffix}'))
        else:
            x = F.relu(bn(conv(x, f'{where}.conv.0.interstellar{name}a'), f'{where}.conv.0.bn{name}a'))
            key = f'{where}.conv.1.interstellar{name}b'
            x = bn(conv(x, f'{key}_s', stride), f'{key}_s_bn')
            x = F.relu(bn(conv(x, key), f'{where}.conv.1.bn{name}b'))
        return torch.cat((kept, x), 1)

    x = F.relu(bn(conv(x, 'first_conv.conv', 2), 'first_conv.bn'))
    outs = []
    number = 0
    for stage, depth in enumerate(blocks, 1):
        for letter in 'abcdefghijklmnop'[:depth]:
            where = f'features.{number}' + ('' if path is None else f'.{path[number]}')
            x = unit(x, where, f'{stage}{letter}', letter == 'a')
            number += 1
        outs.append(x)
    if 'fc.fc.weight' not in sd:
        return outs, None
    x = F.relu(bn(conv(x, 'last_conv.conv'), 'last_conv.bn')).mean((2, 3))
    return outs, F.linear(x, sd['fc.fc.weight'], sd['fc.fc.bias'])
