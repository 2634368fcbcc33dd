# The published clsnasnet-300m (found for ImageNet classification) in Faster R-CNN with FPN on VOC.
_base_ = './detnas-small_net_fpn_voc.py'
model = dict(
    backbone=dict(
        arch='clsnasnet-300m',
        init_cfg=dict(checkpoint='work_dirs/detnas-small_clsnasnet-300m_cls_imagenet/iter_300000.pth'),
    )
)
