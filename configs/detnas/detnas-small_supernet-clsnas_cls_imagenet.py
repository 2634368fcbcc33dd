# The supernet of ClsNAS: as detnas-small_supernet_cls_imagenet.py, without the search-val images.
_base_ = [
    '../_base_/models/detnas_classifier.py',
    '../_base_/datasets/imagenet_detnas.py',
    '../_base_/schedules/detnas_imagenet_300k.py',
    '../_base_/default_runtime_mmpretrain.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASSupernet', space='small'))
custom_hooks = [dict(type='detnas_mm.PathSamplingHook')]
find_unused_parameters = True
