# Step 1 of EDO: ResNet-50 with 9x9 instead of 3x3 kernels is trained on ImageNet with the recipe of the plain one.
#   bash tools/dist_train.sh configs/nats/edo-r50_supernet_cls_imagenet.py 8
# For dilations up to 6 (pose): model.backbone.d_max=6 here and search.space.genotypes=6 in the search.
_base_ = './edo-r50_net_cls_imagenet.py'
model = dict(backbone=dict(type='detnas_mm.EnlargedBackbone', plain='mmpretrain.ResNet', d_max=4))
