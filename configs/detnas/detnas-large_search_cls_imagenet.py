# ClsNAS in the large space, at most 1.3G MACs.
_base_ = './detnas-small_search_cls_imagenet.py'
load_from = 'work_dirs/detnas-large_supernet-clsnas_cls_imagenet/iter_300000.pth'
model = dict(backbone=dict(space='large'))
search = dict(
    space=dict(space='large'),
    constraints=[dict(cost='macs', high=1300e6)],
    export=dict(config='detnas_mm::detnas/detnas-large_net_cls_imagenet.py'),
)
