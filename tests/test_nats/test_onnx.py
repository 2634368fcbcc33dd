"""A detector with a dilated backbone is exported to ONNX up to its raw outputs, which onnxruntime computes alike."""

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from detnas_mm.registry import MODELS
from detnas_mm.systems.nats import DilationSpace
from tests.test_nats.nets import cfg_of, images, randomize, rng

pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')


class RawOutputs(torch.nn.Module):
    """Class scores and boxes of every level, without the boxes' decoding."""

    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, x):
        scores, boxes = self.detector(x, None, mode='tensor')
        return (*scores, *boxes)


def detector(name, preset, channels):
    """A RetinaNet with a randomly dilated backbone, in evaluation mode."""
    space = DilationSpace(cfg_of(name), preset=preset)
    neck = dict(type='FPN', in_channels=channels, out_channels=8, num_outs=5)
    head = dict(type='RetinaHead', num_classes=3, in_channels=8, feat_channels=8, stacked_convs=1)
    test_cfg = dict(nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=9)
    model = dict(type='RetinaNet', backbone=cfg_of(name), neck=neck, bbox_head=head, test_cfg=test_cfg)
    cfg = space.configure(dict(default_scope='mmdet', model=model), space.sample(rng()))
    with DefaultScope.overwrite_default_scope('mmdet'):
        net = randomize(MODELS.build(cfg['model']))
    net.bbox_head.retina_reg.weight.data *= 0.1  # deltas below 1, as of a trained head: boxes are their exponentials
    return net


@pytest.mark.filterwarnings('ignore::DeprecationWarning', 'ignore::torch.jit.TracerWarning')
@pytest.mark.parametrize(
    ('name', 'preset', 'channels'),
    [('resnet_pytorch', 'nats', [32, 64, 128, 256]), ('resnext', 'ic-conv', [256, 512, 1024, 2048])],
)
def test_onnxruntime_computes_the_raw_outputs(name, preset, channels, tmp_path):
    net, x, path = detector(name, preset, channels), images(side=64), tmp_path / 'net.onnx'
    whole = RawOutputs(net).eval()
    with torch.no_grad():
        torch.onnx.export(whole, (x,), path, dynamo=False, input_names=['images'])
        expected = whole(x)
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    found = session.run(None, {'images': x.numpy()})
    assert len(found) == len(expected) == 10
    for ours, theirs in zip(found, expected, strict=True):
        assert np.abs(ours - theirs.numpy()).max() <= 1e-5 * theirs.abs().max()
    first, other = found[0], session.run(None, {'images': x.flip(-1).numpy()})[0]
    assert np.abs(first - other).max() > 1e-3 * np.abs(first).max()  # it is no constant
    given = dict(
        batch_img_metas=[dict(img_shape=(64, 64), scale_factor=(1.0, 1.0), ori_shape=(64, 64))] * 2,
        cfg=ConfigDict(net.test_cfg),
    )
    boxes = [
        net.bbox_head.predict_by_feat(list(maps[:5]), list(maps[5:]), **given)
        for maps in (expected, [torch.from_numpy(one) for one in found])
    ]
    for ours, theirs in zip(*boxes, strict=True):
        assert len(ours) == len(theirs) == 9
        torch.testing.assert_close(ours.bboxes, theirs.bboxes, rtol=0, atol=1e-5 * 64)  # of the images' side
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=1e-5, atol=0)
        assert torch.equal(ours.labels, theirs.labels)
