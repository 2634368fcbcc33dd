# The front of mAP on COCO against the latency of the whole detector on this machine: many nets from one supernet. The
# input size is that of COCO's most common image size, 640x480, resized and padded.
#   python tools/search.py configs/detnas/detnas-small_search-latency_fpn_coco.py SUPERNET.pth --measure --device cuda
_base_ = './detnas-small_search_fpn_coco.py'
search = dict(
    strategy=dict(type='ParetoStrategy'),
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(
        latency=dict(
            type='LatencyTable',
            file='work_dirs/detnas-small_search-latency_fpn_coco/latency.json',
            part='detector',
            input_size=(800, 1088),
        ),
    ),
    constraints=[],
)
