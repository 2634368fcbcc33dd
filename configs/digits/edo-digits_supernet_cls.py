# Step 1 of EDO on Digits: a ResNet-50 of 8 base channels learns to classify crops with kernels of 9x9 in place of 3x3.
#   python tools/train.py configs/digits/edo-digits_supernet_cls.py
_base_ = './edo-digits_net_cls.py'
model = dict(backbone=dict(type='detnas_mm.EnlargedBackbone', plain='mmpretrain.ResNet', d_max=4))
