# Step 2 of DetNAS: the pre-trained supernet is fine-tuned on COCO in RetinaNet, with one random path per iteration.
#   bash tools/dist_train.sh configs/detnas/detnas-small_supernet_retinanet_coco.py 8
_base_ = [
    '../_base_/models/detnas_retinanet.py',
    '../_base_/datasets/coco_detnas.py',
    '../_base_/schedules/detnas_coco_90k.py',
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
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
