# ImageNet as mmpretrain's own recipes take it: RGB, mean and standard deviation, 32 images a GPU, by epochs. For
# backbones that go on to detectors of mmdet's recipes, which normalise alike. $DETNAS_IMAGENET moves it elsewhere.
_base_ = 'mmpretrain::_base_/datasets/imagenet_bs32.py'
data_root = '{{$DETNAS_IMAGENET:data/imagenet}}'
train_dataloader = dict(dataset=dict(data_root=data_root))
val_dataloader = dict(dataset=dict(data_root=data_root))
test_dataloader = dict(dataset=dict(data_root=data_root))
