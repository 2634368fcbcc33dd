# A net of the large space, trained from random weights; by default all blocks are 3x3.
_base_ = './detnas-small_net-scratch_fpn_voc.py'
model = dict(
    backbone=dict(arch='00000000|00000000|0000000000000000|00000000', space='large'),
    neck=dict(in_channels=[96, 240, 480, 960]),
)
