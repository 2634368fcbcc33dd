# An mmpretrain classifier; leaf configs set the backbone.
model = dict(
    type='ImageClassifier',
    backbone=dict(with_last_conv=True, out_indices=()),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=1024,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1),
        topk=(1, 5),
        init_cfg=dict(type='Normal', layer='Linear', std=0.01),
    ),
)
