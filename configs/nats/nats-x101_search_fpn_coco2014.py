# NATS: dilations of a pre-trained ResNeXt-101 32x4d in Faster R-CNN with FPN, searched by gradient on the paper's parts
# of COCO 2014. The found net is exported at the end; run this by
#   bash tools/dist_train.sh configs/nats/nats-x101_search_fpn_coco2014.py 8
_base_ = [
    '../_base_/models/nats_faster_rcnn.py',
    '../_base_/datasets/coco2014_nats.py',
    '../_base_/schedules/nats_search_25e.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedSupernet',
        mixture=True,
        space=dict(channels_per_group=32),
        plain='mmdet.ResNeXt',
        depth=101,
        groups=32,
        base_width=4,
        init_cfg=dict(checkpoint='open-mmlab://resnext101_32x4d'),
    ),
)
train_cfg = dict(alpha_dataloader={{_base_.alpha_data}})
search = dict(
    space=dict(
        type='DilationSpace',
        backbone=dict(type='mmdet.ResNeXt', depth=101, groups=32, base_width=4),
        channels_per_group=32,
        input_size=(800, 1200),
    ),
    objectives=[dict(name='alpha_entropy', direction='minimize')],
    export=dict(config='detnas_mm::nats/nats-x101_net_fpn_coco.py'),
)
custom_hooks = [
    dict(type='detnas_mm.EpochSeedHook'),
    dict(type='detnas_mm.NATSSearchHook', calibration={{_base_.calibration}}),
]
