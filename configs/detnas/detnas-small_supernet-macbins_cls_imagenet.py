# Step 1 of DetNAS with path sampling as in the authors' ImageNet script: uniform over bins of 10M MACs in 290–360M,
# including the last convolution and the classifier.
_base_ = './detnas-small_supernet_cls_imagenet.py'
custom_hooks = [
    dict(
        type='detnas_mm.PathSamplingHook',
        sampler=dict(type='MacsBinPathSampler', low=290e6, high=360e6, bin_width=10e6, with_classifier=1000),
    )
]
