# AdamW, cosine to 0; without warm-up and gradient clipping, heads diverge at this learning rate. Leaf configs set the
# number of iterations.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=3e-3, fused=True), clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, eta_min=0),
]
default_hooks = dict(
    logger=dict(type='LoggerHook', interval=50),
    checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=200, max_keep_ckpts=1),
)
custom_hooks = [dict(type='detnas_mm.ChannelsLastHook')]
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
