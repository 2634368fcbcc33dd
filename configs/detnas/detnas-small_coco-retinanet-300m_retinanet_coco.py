# The published coco-retinanet-300m (found for RetinaNet on COCO) in RetinaNet on COCO.
_base_ = './detnas-small_net_retinanet_coco.py'
model = dict(
    backbone=dict(
        arch='coco-retinanet-300m',
        init_cfg=dict(checkpoint='work_dirs/detnas-small_coco-retinanet-300m_cls_imagenet/iter_300000.pth'),
    )
)
