# Step 4 of DetNAS in the large space. Set model.backbone.arch; by default all blocks are 3x3 (1.04G MACs).
_base_ = './detnas-small_net_cls_imagenet.py'
model = dict(backbone=dict(arch='00000000|00000000|0000000000000000|00000000', space='large'))
