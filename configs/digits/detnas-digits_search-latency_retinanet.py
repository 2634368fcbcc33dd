# The front of mAP against the latency of the whole detector on this machine: many nets from one supernet. Measures the
# latency table first if the file does not exist, and the exported nets at the end:
#   python tools/search.py configs/digits/detnas-digits_search-latency_retinanet.py SUPERNET.pth --measure
_base_ = './detnas-digits_search-pareto_retinanet.py'
search = dict(
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='latency', direction='minimize'),
    ],
    costs=dict(
        latency=dict(
            type='LatencyTable',
            file='work_dirs/detnas-digits_search-latency_retinanet/latency.json',
            part='detector',
            input_size=(96, 96),
        ),
    ),
)
