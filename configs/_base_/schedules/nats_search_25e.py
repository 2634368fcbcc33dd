# The paper's search: 25 epochs with 8 images per iteration; weights by SGD with a cosine schedule; α by Adam, not
# updated in the first 10 epochs. The paper does not state Adam's betas: (0.5, 0.999) as in DARTS.
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='detnas_mm.AlphaOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.00125, momentum=0.9, weight_decay=1e-4),
    alpha=dict(optimizer=dict(type='Adam', lr=0.01, betas=(0.5, 0.999), weight_decay=1e-5)),
)
param_scheduler = dict(
    weights=[
        dict(
            type='CosineAnnealingLR', eta_min=0.00005, begin=0, end=25, T_max=25, by_epoch=True,
            convert_to_iter_based=True,
        )
    ],
    alpha=[],
)  # fmt: skip
train_cfg = dict(type='detnas_mm.AlternatingTrainLoop', max_epochs=25, alpha_from=10)
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
)
randomness = dict(seed=0)
