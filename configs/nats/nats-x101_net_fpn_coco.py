# Retrains a searched ResNeXt-101 32x4d in Faster R-CNN with FPN, from the pre-trained weights of the plain one, as the
# paper does. Set the found genotypes; without them it is the plain net, the baseline:
#   bash tools/dist_train.sh configs/nats/nats-x101_net_fpn_coco.py 8 --cfg-options model.backbone.genotypes='…'
_base_ = [
    '../_base_/models/nats_faster_rcnn.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/nats_coco_13e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedBackbone',
        genotypes='1x1',
        stages=['layer2', 'layer3', 'layer4'],
        plain='mmdet.ResNeXt',
        depth=101,
        groups=32,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_32x4d'),
    ),
)
