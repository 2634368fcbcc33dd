# Several objectives at once: the front of mAP against MACs, every net of it exported.
#   python tools/search.py configs/digits/detnas-digits_search-pareto_retinanet.py SUPERNET.pth
_base_ = './detnas-digits_search_retinanet.py'
search = dict(
    strategy=dict(type='ParetoStrategy'),
    objectives=[
        dict(name='coco/bbox_mAP', direction='maximize'),
        dict(name='macs', direction='minimize'),
    ],
    constraints=[],
)
