# An mmpretrain classifier; leaf configs set the backbone. Initialised by torch's defaults: from the authors'
# initialisation of depthwise kernels (standard deviation 1), a few hundred steps of AdamW hardly change large kernels.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        with_last_conv=True,
        init_cfg=dict(
            type='Kaiming', layer='Conv2d', a=5**0.5, mode='fan_in', nonlinearity='leaky_relu', distribution='uniform'
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        topk=(1,),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),
    ),
)
