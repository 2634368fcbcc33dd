# Training from random weights: group normalisation and weight standardisation, for any detector. Inherit this file and
# a detector, then set
#   model = dict(
#       backbone={{_base_.from_scratch.backbone}},
#       neck={{_base_.from_scratch.layers}},
#       bbox_head={{_base_.from_scratch.layers}},  # one-stage; for two-stage detectors: roi_head=dict(bbox_head=…)
#   )
# In a part with other settings set norm_cfg={{_base_.from_scratch.layers.norm_cfg}}, and conv_cfg likewise. Heads
# without norms (RPN, GA-RPN) are not changed. mmdet's shared head of C4 has no conv_cfg: give it
# type='detnas_mm.ResLayer', which does, and norm_eval=False.
from_scratch = dict(
    # for necks and heads: 32 groups, or the largest smaller divisor of a layer's channels
    layers=dict(
        norm_cfg=dict(type='detnas_mm.GroupNorm', num_groups=32, requires_grad=True),
        conv_cfg=dict(type='detnas_mm.StandardizedConv2d'),
    ),
    backbone=dict(
        norm_cfg=dict(type='detnas_mm.GroupNorm', num_groups=32, requires_grad=True),
        conv_cfg=dict(type='detnas_mm.StandardizedConv2d'),
        norm_eval=False,
        frozen_stages=-1,
        init_cfg=None,
    ),
)
