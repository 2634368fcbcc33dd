# Step 2 of DetNAS: the pre-trained supernet is fine-tuned on VOC in RetinaNet, with one random path per iteration.
#   bash tools/dist_train.sh configs/detnas/detnas-small_supernet_retinanet_voc.py 8
_base_ = [
    '../_base_/models/detnas_retinanet.py',
    '../_base_/datasets/voc_detnas.py',
    '../_base_/schedules/detnas_voc_22k5.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DetNASSupernet',
        space='small',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/detnas-small_supernet_cls_imagenet/iter_300000.pth',
            prefix='backbone.',
        ),
    ),
    bbox_head=dict(num_classes=20),
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
