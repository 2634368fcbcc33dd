# Step 1 of EDO on Digits: a ResNet-50 of 8 base channels with 9x9 instead of 3x3 kernels is trained to classify crops.
#   python tools/train.py configs/digits/edo-digits_supernet_cls.py
_base_ = './edo-digits_net_cls.py'
model = dict(backbone=dict(type='detnas_mm.EnlargedBackbone', plain='mmpretrain.ResNet', d_max=4))
