# NATS's space searched by evolution, step 1: all dilations share the weights of a pre-trained ResNet-50 in Faster R-CNN
# with FPN, trained with one random path per iteration, with the iterations and learning rate of the search by gradient
# on halves of train2017: 25 times 7,330 with 8 images.
#   bash tools/dist_train.sh configs/nats/nats-r50_supernet-paths_fpn_coco.py 8
_base_ = [
    '../_base_/models/nats_faster_rcnn.py',
    '../_base_/datasets/coco_detnas.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedSupernet',
        space=dict(groups=16),
    ),
)
train_dataloader = dict(batch_size=1, num_workers=2)
iterations = 25 * 7330
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.00125, momentum=0.9, weight_decay=1e-4))
param_scheduler = [dict(type='CosineAnnealingLR', eta_min=0.00005, by_epoch=False, begin=0, end=iterations)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=iterations, val_interval=iterations)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=7330, max_keep_ckpts=2),
)
log_processor = dict(by_epoch=False)
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
randomness = dict(seed=0)
