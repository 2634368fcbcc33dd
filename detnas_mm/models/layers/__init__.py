"""Building blocks of the backbones."""

from detnas_mm.models.layers.bottleneck import Bottleneck
from detnas_mm.models.layers.common import conv_norm
from detnas_mm.models.layers.shuffle_unit import CHANNEL_SPLITS, ShuffleUnit

__all__ = ['CHANNEL_SPLITS', 'Bottleneck', 'ShuffleUnit', 'conv_norm']
