# The published coco-fpn-300m (found for FPN on COCO) in Faster R-CNN with FPN on COCO.
_base_ = './detnas-small_net_fpn_coco.py'
model = dict(
    backbone=dict(
        arch='coco-fpn-300m',
        init_cfg=dict(checkpoint='work_dirs/detnas-small_coco-fpn-300m_cls_imagenet/iter_300000.pth'),
    )
)
