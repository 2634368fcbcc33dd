# Step 5 of DetNAS on Digits: the found net, pre-trained by detnas-digits_net_cls.py, is fine-tuned in a detector.
#   python tools/train.py configs/digits/detnas-digits_net_fpn.py --cfg-options model.backbone.arch='2|2|20|3' \
#       model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=NET.pth \
#       model.backbone.init_cfg.prefix=backbone.
_base_ = [
    '../_base_/models/digits_space.py',
    '../_base_/models/digits_faster_rcnn.py',
    '../_base_/datasets/digits_detection.py',
    '../_base_/schedules/digits.py',
    '../_base_/default_runtime_mmdet.py',
]
model = dict(backbone=dict(type='detnas_mm.DetNASNet', arch='0|0|00|0', space={{_base_.space}}))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1000)
