custom_imports = dict(imports=['learnt'])
default_scope = 'mmengine'
model = dict(type='SoftPower')
train_dataloader = dict(
    batch_size=4,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(type='Squares'),
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
train_cfg = dict(type='TakingTurns', max_epochs=4)
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.2, momentum=0.9))
default_hooks = dict(checkpoint=dict(type='CheckpointHook', interval=1, by_epoch=True, max_keep_ckpts=1))
custom_hooks = [
    dict(type='PowerSearchHook'),
    dict(type='detnas_mm.EpochSeedHook'),
    dict(type='KilledHook'),
    dict(type='KilledAfterCheckpointHook'),
]
randomness = dict(seed=0)
search = dict(space=dict(type='PowerSpace'), objectives=[dict(name='alpha')])
