# mmdet's Cascade R-CNN from random weights, as all detectors of stage 2 of SM-NAS: a backbone of blocks, group
# normalisation and weight standardisation. Leaf configs set code, channels and levels.
_base_ = ['mmdet::_base_/models/cascade-rcnn_r50_fpn.py', './gn_ws.py']
model = dict(
    backbone=dict(
        _delete_=True,
        type='detnas_mm.SMNASBackbone',
        # half as many groups as base channels, as in the authors' code
        norm_cfg=dict(type='detnas_mm.GroupNorm', num_groups=32, requires_grad=True),
        conv_cfg=dict(type='detnas_mm.StandardizedConv2d'),
    ),
    neck={{_base_.from_scratch.layers}},
)
