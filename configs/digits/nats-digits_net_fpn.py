# Trains a net of NATS on Digits in Faster R-CNN, from a plain backbone that was pre-trained on crops. Set the found
# genotypes; without them it is the plain net, the control:
#   python tools/train.py configs/digits/nats-digits_net_fpn.py --cfg-options model.backbone.genotypes='…' \
#       model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.prefix=backbone. \
#       model.backbone.init_cfg.checkpoint=work_dirs/edo-digits_net_cls/iter_800.pth
_base_ = [
    '../_base_/models/nats_digits_fpn.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(
    backbone=dict(
        type='detnas_mm.DilatedBackbone',
        genotypes='1x1',
        stages=['layer2', 'layer3', 'layer4'],
    ),
)
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000)
