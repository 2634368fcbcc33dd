# IC-Conv's published ResNet-50 in Cascade Mask R-CNN with FPN, fine-tuned from the authors' ImageNet checkpoint. The
# pattern depends on its order of channels, so no other checkpoint fits:
#   python tools/model_converters/convert_ic_conv.py AUTHORS.pth checkpoints/ic-resnet50-segmentation.pth
_base_ = [
    '../_base_/models/nats_cascade_mask_rcnn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/ic_conv_coco_12e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedBackbone',
        genotypes='ic-resnet50-segmentation',
        init_cfg=dict(
            _delete_=True, type='Pretrained', checkpoint='checkpoints/ic-resnet50-segmentation.pth', prefix='backbone.'
        ),
    ),
)
