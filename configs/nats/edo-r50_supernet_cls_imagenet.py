# Step 1 of EDO: ResNet-50 with kernels of 9x9 in place of 3x3 learns to classify ImageNet, by the plain one's recipe.
#   bash tools/dist_train.sh configs/nats/edo-r50_supernet_cls_imagenet.py 8
# For dilations up to 6, as for pose: model.backbone.d_max=6 here, search.space.genotypes=6 in the search.
_base_ = './edo-r50_net_cls_imagenet.py'
model = dict(backbone=dict(type='detnas_mm.EnlargedBackbone', plain='mmpretrain.ResNet', d_max=4))
