# Step 3 of EDO: the backbone with the found dilations is pre-trained with mmpretrain's recipe of ResNet-50. This config
# has no dilations and is the control; the search writes a copy with the found ones:
#   bash tools/dist_train.sh work_dirs/edo-r50_search_cls_imagenet/best/rank1_….py 8
_base_ = [
    'mmpretrain::_base_/models/resnet50.py',
    '../_base_/datasets/imagenet_mmpretrain.py',
    'mmpretrain::_base_/schedules/imagenet_bs256.py',
    'mmpretrain::_base_/default_runtime.py',
]
default_hooks = dict(checkpoint=dict(max_keep_ckpts=2))
randomness = dict(seed=0)
