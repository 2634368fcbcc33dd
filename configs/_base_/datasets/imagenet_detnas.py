# ImageNet for ClsNAS: 50,000 images of train (search-val) are not trained on; the search evaluates candidates on them.
# Make the split by
#   python tools/dataset_converters/split_imagenet.py data/imagenet
_base_ = './imagenet_supernet.py'
train_dataloader = dict(dataset=dict(ann_file='meta/detnas_train.txt'))

# Data for the evaluator of a search.
search_data = dict(
    dataloader=dict(
        batch_size=250,
        num_workers=8,
        collate_fn=dict(type='default_collate'),
        dataset=dict(
            type='ImageNet',
            data_root={{_base_.data_root}},
            split='train',
            ann_file='meta/detnas_search_val.txt',
            pipeline={{_base_.test_pipeline}},
        ),
    ),
    metric=dict(type='Accuracy', topk=(1, 5)),
    # BN is recalibrated on training images with the test transforms.
    calibration=dict(
        num_images=500,
        dataloader=dict(
            batch_size=20,
            num_workers=8,
            collate_fn=dict(type='default_collate'),
            dataset=dict(
                type='ImageNet',
                data_root={{_base_.data_root}},
                split='train',
                ann_file='meta/detnas_train.txt',
                pipeline={{_base_.test_pipeline}},
            ),
        ),
    ),
)
