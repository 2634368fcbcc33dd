# Factors of SM-NAS's first stage for Digits, with few channels. Digits are about as high as wide, so each level has one
# square anchor, three strides wide; an image has at most four digits, so few RoIs are sampled.
search = dict(
    space=dict(
        type='StructuralSpace',
        num_classes=10,
        smallest_map=2,
        recipe='from_scratch',
        factors=dict(
            size={f'{side}x{side}': dict(scale=(side, side)) for side in (64, 96, 128)},
            backbone={
                f'resnet{depth}-{base}': dict(
                    base=f'resnet{depth}',
                    model=dict(backbone=dict(base_channels=base)),
                    channels=(base, 2 * base, 4 * base, 8 * base),
                    shared_head=None,
                )
                for depth in (18, 34)
                for base in (8, 16, 24)
            },
            neck={
                f'fpn-p{first}-p{last}-{channels}': dict(
                    model=dict(neck=dict(type='FPN', out_channels=channels)),
                    strides=(2 ** (first + 1), 2 ** (last + 1)),
                )
                for first, last in ((1, 3), (1, 4), (2, 4))
                for channels in (24, 48)
            },
            rpn=dict(
                none='none',
                rpn=dict(
                    base='rpn',
                    model=dict(
                        rpn_head=dict(anchor_generator=dict(scales=[3], ratios=[1.0])),
                        train_cfg=dict(
                            rpn=dict(sampler=dict(num=64)),
                            rpn_proposal=dict(nms_pre=200, max_per_img=100),
                        ),
                        test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50)),
                    ),
                ),
            ),
            head=dict(
                retinanet=dict(
                    base='retinanet',
                    model=dict(
                        bbox_head=dict(
                            stacked_convs=1,
                            feat_channels=48,
                            anchor_generator=dict(octave_base_scale=2, scales_per_octave=2, ratios=[1.0]),
                        ),
                        test_cfg=dict(max_per_img=20),
                    ),
                ),
                **{
                    name: dict(
                        base=name,
                        model=dict(
                            roi_head=dict(bbox_head=dict(fc_out_channels=64)),
                            train_cfg=dict(rcnn=dict(sampler=dict(num=16))),
                            test_cfg=dict(rcnn=dict(max_per_img=20)),
                        ),
                    )
                    for name in ('faster', 'cascade2')
                },
            ),
        ),
    ),
)
