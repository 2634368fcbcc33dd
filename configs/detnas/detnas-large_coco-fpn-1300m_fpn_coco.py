# The published coco-fpn-1.3g (the paper's DetNASNet) in Faster R-CNN with FPN on COCO.
_base_ = './detnas-large_net_fpn_coco.py'
model = dict(
    backbone=dict(
        arch='coco-fpn-1.3g',
        init_cfg=dict(checkpoint='work_dirs/detnas-large_coco-fpn-1300m_cls_imagenet/iter_300000.pth'),
    )
)
