# The published coco-fpn-3.8g (the paper's DetNASNet (3.8)) in Faster R-CNN with FPN on COCO.
_base_ = './detnas-large-3800m_net_fpn_coco.py'
model = dict(
    backbone=dict(
        arch='coco-fpn-3.8g',
        init_cfg=dict(checkpoint='work_dirs/detnas-large-3800m_coco-fpn-3800m_cls_imagenet/iter_300000.pth'),
    )
)
