# NATS: dilations of a pre-trained ResNet-101 in Faster R-CNN with FPN, searched by gradient on halves of train2017. The
# found net is exported at the end; run this by
#   bash tools/dist_train.sh configs/nats/nats-r101_search_fpn_coco.py 8
_base_ = [
    '../_base_/models/nats_faster_rcnn.py',
    '../_base_/datasets/coco_nats.py',
    '../_base_/schedules/nats_search_25e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedSupernet',
        mixture=True,
        space=dict(channels_per_group=32),
        depth=101,
        init_cfg=dict(checkpoint='torchvision://resnet101'),
    ),
)
train_cfg = dict(alpha_dataloader={{_base_.alpha_data}})
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmdet.ResNet', depth=101),
        channels_per_group=32,
        input_size=(800, 1200),
    ),
    objectives=[dict(name='alpha_entropy', direction='minimize')],
    export=dict(config='detnas_mm::nats/nats-r101_net_fpn_coco.py'),
)
custom_hooks = [
    dict(type='detnas_mm.EpochSeedHook'),
    dict(type='detnas_mm.NATSSearchHook', calibration={{_base_.calibration}}),
]
