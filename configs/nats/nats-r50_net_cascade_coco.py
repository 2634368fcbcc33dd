# Retrains a searched ResNet-50 in Cascade R-CNN with FPN, from the pre-trained weights of the plain one, as in the
# paper. Set the found genotypes; without them it is the plain net, the baseline:
#   bash tools/dist_train.sh configs/nats/nats-r50_net_cascade_coco.py 8 --cfg-options model.backbone.genotypes='…'
_base_ = [
    '../_base_/models/nats_cascade_rcnn.py',
    '../_base_/datasets/coco.py',
    '../_base_/schedules/nats_coco_13e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedBackbone',
        genotypes='1x1',
        stages=['layer2', 'layer3', 'layer4'],
    ),
)
