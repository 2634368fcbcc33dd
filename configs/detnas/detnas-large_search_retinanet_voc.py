# Step 3 of DetNAS in the large space, at most 1.3G MACs.
_base_ = './detnas-small_search_retinanet_voc.py'
load_from = 'work_dirs/detnas-large_supernet_retinanet_voc/iter_22500.pth'
model = dict(backbone=dict(space='large'), neck=dict(in_channels=[96, 240, 480, 960]))
search = dict(
    space=dict(space='large'),
    constraints=[dict(cost='macs', high=1300e6)],
    export=dict(config='detnas_mm::detnas/detnas-large_net_retinanet_voc.py'),
)
