# Step 4 of DetNAS in the large space. Say which net; as it stands it is the paper's ShuffleNetV2-40, all blocks 3x3.
_base_ = './detnas-small_net_cls_imagenet.py'
model = dict(backbone=dict(arch='00000000|00000000|0000000000000000|00000000', space='large'))
