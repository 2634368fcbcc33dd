# Crops of Digits in ImageNet's folder layout; made by tools/dataset_converters/make_digits.py.
dataset_type = 'CustomDataset'
data_root = '{{$DETNAS_DIGITS:data/digits}}/'
# Side of the crops: half of that of the images, $DETNAS_DIGITS_SIZE.
size = int('{{$DETNAS_DIGITS_SIZE:96}}') // 2
data_preprocessor = dict(num_classes=10, to_rgb=False)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='PackInputs'),
]
test_pipeline = train_pipeline
train_dataloader = dict(
    batch_size=64,
    num_workers=0,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='cls/train', pipeline=train_pipeline),
)
test_dataloader = dict(
    batch_size=100,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(type=dataset_type, data_root=data_root, data_prefix='cls/test', pipeline=test_pipeline),
)
test_evaluator = dict(type='Accuracy', topk=(1,))
test_cfg = dict(type='TestLoop')
