# Training from random weights: group normalisation and standardised weights, for any detector. A config that inherits
# this beside its detector puts the pieces in:
#   model = dict(
#       backbone={{_base_.from_scratch.backbone}},
#       neck={{_base_.from_scratch.layers}},
#       bbox_head={{_base_.from_scratch.layers}},  # one stage; of two stages: roi_head=dict(bbox_head=…)
#   )
# A part that has settings of its own takes norm_cfg={{_base_.from_scratch.layers.norm_cfg}} and conv_cfg likewise.
# Heads without norms (RPN, GA-RPN) stay as they are.
from_scratch = dict(
    # of necks and heads: 32 groups, or the largest divisor of a layer's channels below
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
