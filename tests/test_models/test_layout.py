"""Channels last changes no value, not even with mmcv's operators, which support only one layout."""

import torch
from mmcv.ops import RoIAlign
from torch import nn

from detnas_mm.models.layout import to_channels_last


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.align = RoIAlign(4, sampling_ratio=2)
        self.head = nn.Conv2d(8, 4, 3)

    def forward(self, x, rois):
        features = self.conv(x)
        self.layout = features.is_contiguous(memory_format=torch.channels_last)
        return self.head(self.align(features, rois))


def test_results_stay_and_the_layout_is_put_back():
    torch.manual_seed(0)
    model = Detector().eval()
    x, rois = torch.rand(2, 3, 16, 16), torch.tensor([[0.0, 1, 1, 9, 12], [1, 4, 2, 15, 13]])
    with torch.no_grad():
        wanted = model(x, rois)
        assert not model.layout
        back = to_channels_last(model)
        found = model(x, rois)
        assert model.layout and model.conv.weight.is_contiguous(memory_format=torch.channels_last)
        back()
        assert torch.equal(model(x, rois), wanted) and not model.layout
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
