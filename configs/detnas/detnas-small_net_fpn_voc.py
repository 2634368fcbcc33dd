# Step 5 of DetNAS: the found net, pre-trained by detnas-small_net_cls_imagenet.py, is fine-tuned on VOC in Faster R-CNN
# with FPN. Set its architecture; by default all blocks are 3x3, as in ShuffleNetV2-20:
#   bash tools/dist_train.sh configs/detnas/detnas-small_net_fpn_voc.py 8 \
#       --cfg-options model.backbone.arch='2120|2112|33130031|3132'
_base_ = [
    '../_base_/models/detnas_faster_rcnn.py',
    '../_base_/datasets/voc.py',
    '../_base_/schedules/detnas_voc_22k5.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DetNASNet',
        arch='0000|0000|00000000|0000',
        space='small',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/detnas-small_net_cls_imagenet/iter_300000.pth',
            prefix='backbone.',
        ),
    ),
    roi_head=dict(bbox_head=dict(num_classes=20)),
)
