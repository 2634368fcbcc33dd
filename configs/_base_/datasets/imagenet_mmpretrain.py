# ImageNet as in mmpretrain's own recipes: RGB, normalised, 32 images per GPU, by epochs. For backbones of detectors
# with mmdet's own recipes, which normalise in the same way. $DETNAS_IMAGENET sets another folder.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'
data_root = '{{$DETNAS_IMAGENET:data/imagenet}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
