# MAE-DET on Digits: the structure of largest entropy within the costs of maedet-digits_resnet_retinanet.py, with a
# proven bound. Takes seconds and needs neither data nor a checkpoint.
#   python tools/search.py configs/digits/maedet-digits_search_retinanet.py
_base_ = ['./maedet-digits_resnet_retinanet.py', '../_base_/search/maedet_exact.py']
search = dict(
    space=dict(
        _delete_=True,
        type='MAEDetSpace',
        space=dict(
            strides=[2, 2, 2, 2],
            stem_widths=[8, 16],
            widths=[16, 256],
            growth=[1, 4],
            depths=[1, 4],
            bottlenecks=[8, 64],
            bottleneck_step=4,
            bottleneck_ratio=[0.125, 0.5],
        ),
    ),
    costs=dict(
        _delete_=True,
        macs=dict(type='StructureMacs', input_size=(96, 96)),
        params=dict(type='StructureParams'),
        layers=dict(type='StructureLayers'),
    ),
    constraints=[
        dict(cost='macs', high=7_778_304),
        dict(cost='params', high=221_904),
        dict(cost='layers', high=25),
    ],
)
