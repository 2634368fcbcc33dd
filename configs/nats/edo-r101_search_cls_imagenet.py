# Step 2 of EDO with ResNet-101, see edo-r50_search_cls_imagenet.py:
#   python tools/search.py configs/nats/edo-r101_search_cls_imagenet.py
_base_ = './edo-r50_search_cls_imagenet.py'
model = dict(backbone=dict(depth=101))
load_from = 'work_dirs/edo-r101_supernet_cls_imagenet/epoch_100.pth'
search = dict(
    space=dict(backbone=dict(depth=101)),
    export=dict(config='detnas_mm::nats/edo-r101_net_cls_imagenet.py'),
)
