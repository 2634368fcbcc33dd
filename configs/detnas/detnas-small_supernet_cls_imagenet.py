# Step 1 of DetNAS: the supernet is pre-trained on ImageNet, with one random path per iteration.
#   bash tools/dist_train.sh configs/detnas/detnas-small_supernet_cls_imagenet.py 8
_base_ = [
    '../_base_/models/detnas_classifier.py',
    '../_base_/datasets/imagenet_supernet.py',
    '../_base_/schedules/detnas_imagenet_300k.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space='small'))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
