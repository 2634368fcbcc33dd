"""A net with the keys of the authors' code, written here after the description in docs/mae_det.md, for tests alone."""

import torch
from torch import nn


class ConvKXBN(nn.Module):
    def __init__(self, cin, cout, kernel, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(cin, cout, kernel, stride, (kernel - 1) // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(cout)

    def forward(self, x):
        return self.bn1(self.conv1(x))


class ResK1KXK1(nn.Module):
    def __init__(self, cin, cout, btn, kernel, stride, first):
        super().__init__()
        self.conv1, self.conv2 = ConvKXBN(cin, btn, 1, 1), ConvKXBN(btn, btn, kernel, stride)
        self.conv3 = ConvKXBN(btn, cout, 1, 1)
        self.stride = stride
        if first:
            self.residual_proj = ConvKXBN(cin, cout, 1, 1)

    def forward(self, x):
        out = self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        if self.stride == 2:
            x = nn.functional.avg_pool2d(x, 2)
        if hasattr(self, 'residual_proj'):
            x = self.residual_proj(x)
        return torch.relu(out + x)


class SuperBlock(nn.Module):
    def __init__(self, block):
        super().__init__()
        cin, out, kernel, stride, btn = (block[key] for key in ('in', 'out', 'k', 's', 'btn'))
        self.block_list = nn.ModuleList(
            ResK1KXK1(out if j else cin, out, btn, kernel, 1 if j else stride, j == 0) for j in range(block['L'])
        )

    def forward(self, x):
        for unit in self.block_list:
            x = unit(x)
        return x


class Reference(nn.Module):
    """Takes the authors' list of dicts; returns the last feature map."""

    def __init__(self, dicts):
        super().__init__()
        stem, *blocks = dicts
        self.block_list = nn.ModuleList([ConvKXBN(3, stem['out'], stem['k'], stem['s']), *map(SuperBlock, blocks)])

    def forward(self, x):
        x = torch.relu(self.block_list[0](x))
        for block in self.block_list[1:]:
            x = block(x)
        return x


def randomised(dicts):
    """With BN statistics and scales that are no identity."""
    torch.manual_seed(0)
    net = Reference(dicts).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return net
