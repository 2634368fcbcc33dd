"""Factors of the paper's first stage, as data (Yao et al., SM-NAS, AAAI 2020, section 3.1 and table 1).

Comments name choices that the paper leaves open. Levels are numbered as in the paper: P1 has stride 4. Training
settings are those of the authors' early implementation where it has any, else mmdet's.
"""

from __future__ import annotations

from typing import Any

_SIZES = ((512, 512), (800, 600), (1080, 720), (1333, 800))
#: First and last levels of FPN; the paper names P1–P5 and P2–P5 as examples within P1–P6.
_LEVELS = tuple((first, last) for first in (1, 2, 3) for last in (4, 5, 6))
_NECK_CHANNELS = (128, 256, 384)
_RATIOS = [0.5, 1.0, 2.0]
#: Anchor scales for a single map of stride 16, which serves objects of all sizes.
_C4_SCALES = [2, 4, 8, 16, 32]
_BN = dict(type='BN', requires_grad=True)
_NMS = dict(type='nms', iou_threshold=0.7)


def reference_factors() -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the values of every factor by name, as :class:`StructuralSpace` reads them."""
    return dict(size=_sizes(), backbone=_backbones(), neck=_necks(), rpn=_rpns(), head=_heads())


def _sizes() -> dict[str, dict[str, Any]]:
    return {f'{width}x{height}': dict(scale=[width, height]) for width, height in _SIZES}


# -- backbones ------------------------------------------------------------------------------------------------------


def _backbones() -> dict[str, dict[str, Any]]:
    narrow, wide = [64, 128, 256, 512], [256, 512, 1024, 2048]
    out = {f'resnet{depth}': _resnet(depth, narrow if depth < 50 else wide) for depth in (18, 34, 50, 101)}
    for depth in (50, 101):
        backbone = dict(_resnet_settings('ResNeXt', depth, f'open-mmlab://resnext{depth}_32x4d'))
        backbone |= dict(groups=32, base_width=4)
        out[f'resnext{depth}'] = dict(model=dict(backbone=backbone), **_stages(wide), cuts=_CUTS)
    out['mobilenetv2'] = dict(
        model=dict(
            backbone=dict(
                type='MobileNetV2', norm_cfg=_BN, norm_eval=True, frozen_stages=1,
                init_cfg=dict(type='Pretrained', checkpoint='open-mmlab://mmdet/mobilenet_v2'),
            ),
        ),
        **_stages([24, 32, 96, 1280]),
        out_indices=[1, 2, 4, 7],
    )  # fmt: skip
    return out


#: Settings by which mmdet's ResNets build no stage after the last stride that is used.
_CUTS = {
    str(2 ** (count + 1)): dict(num_stages=count, strides=[1, 2, 2][:count], dilations=[1] * count)
    for count in (1, 2, 3)
}


def _stages(channels: list[int]) -> dict[str, Any]:
    return dict(channels=channels, strides=[4, 8, 16, 32])


def _resnet(depth: int, channels: list[int]) -> dict[str, Any]:
    backbone = _resnet_settings('ResNet', depth, f'torchvision://resnet{depth}')
    shared = {key: backbone[key] for key in ('depth', 'style', 'norm_cfg', 'norm_eval', 'init_cfg')}
    return dict(
        model=dict(backbone=backbone),
        **_stages(channels),
        cuts=_CUTS,
        shared_head=dict(type='ResLayer', stage=3, stride=2, dilation=1, **shared),
    )


def _resnet_settings(kind: str, depth: int, checkpoint: str) -> dict[str, Any]:
    return dict(
        type=kind, depth=depth, num_stages=4, style='pytorch', frozen_stages=1, norm_cfg=_BN, norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint=checkpoint),
    )  # fmt: skip


# -- necks ----------------------------------------------------------------------------------------------------------


def _necks() -> dict[str, dict[str, Any]]:
    """Necks. C4 is none: heads read the backbone's map of stride 16. FPN pools levels after the backbone's last."""
    out: dict[str, dict[str, Any]] = dict(c4=dict(strides=[16, 16]))
    for first, last in _LEVELS:
        for channels in _NECK_CHANNELS:
            neck = dict(type='FPN', out_channels=channels)
            out[f'fpn-p{first}-p{last}-{channels}'] = dict(
                model=dict(neck=neck), strides=[2 ** (first + 1), 2 ** (last + 1)]
            )
    return out


# -- proposals ------------------------------------------------------------------------------------------------------


def _coder(*stds: float) -> dict[str, Any]:
    return dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=list(stds))


def _sampled(num: int, pos_fraction: float, with_truth: bool) -> dict[str, Any]:
    return dict(
        type='RandomSampler', num=num, pos_fraction=pos_fraction, neg_pos_ub=-1, add_gt_as_proposals=with_truth
    )  # fmt: skip


def _assigned(positive: float, negative: float, least: float, **more: Any) -> dict[str, Any]:
    return dict(
        type='MaxIoUAssigner', pos_iou_thr=positive, neg_iou_thr=negative, min_pos_iou=least, ignore_iof_thr=-1, **more
    )  # fmt: skip


def _proposals(nms_pre: int, max_per_img: int) -> dict[str, Any]:
    return dict(nms_pre=nms_pre, max_per_img=max_per_img, nms=_NMS, min_bbox_size=0)


def _rpns() -> dict[str, dict[str, Any]]:
    cross_entropy = dict(type='CrossEntropyLoss', use_sigmoid=True)
    training = dict(
        assigner=_assigned(0.7, 0.3, 0.3, match_low_quality=True), sampler=_sampled(256, 0.5, False),
        allowed_border=-1, pos_weight=-1, debug=False,
    )  # fmt: skip
    plain = dict(
        model=dict(
            rpn_head=dict(
                type='RPNHead',
                anchor_generator=dict(type='AnchorGenerator', scales=[8], ratios=_RATIOS),
                bbox_coder=_coder(1.0, 1.0, 1.0, 1.0),
                loss_cls=cross_entropy,
                loss_bbox=dict(type='L1Loss'),
            ),
            train_cfg=dict(rpn=training, rpn_proposal=_proposals(2000, 1000)),
            test_cfg=dict(rpn=_proposals(1000, 1000)),
        ),
        when=[
            dict(
                neck='c4',
                model=dict(
                    rpn_head=dict(anchor_generator=dict(scales=_C4_SCALES)),
                    train_cfg=dict(rpn_proposal=dict(nms_pre=12000, max_per_img=2000)),
                    test_cfg=dict(rpn=dict(nms_pre=6000)),
                ),
            )
        ],
    )
    guided = dict(
        model=dict(
            rpn_head=dict(
                type='detnas_mm.GARPNHead',
                approx_anchor_generator=dict(
                    type='AnchorGenerator', octave_base_scale=8, scales_per_octave=3, ratios=_RATIOS
                ),
                square_anchor_generator=dict(type='AnchorGenerator', ratios=[1.0], scales=[8]),
                anchor_coder=_coder(0.07, 0.07, 0.14, 0.14),
                bbox_coder=_coder(0.07, 0.07, 0.11, 0.11),
                loc_filter_thr=0.01,
                loss_loc=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
                loss_shape=dict(type='BoundedIoULoss', beta=0.2),
                loss_cls=cross_entropy,
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
            ),
            train_cfg=dict(
                rpn=dict(
                    training,
                    ga_assigner=dict(
                        type='ApproxMaxIoUAssigner', pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3,
                        ignore_iof_thr=-1,
                    ),
                    ga_sampler=_sampled(256, 0.5, False),
                    center_ratio=0.2,
                    ignore_ratio=0.5,
                ),
                rpn_proposal=dict(nms_post=1000, **_proposals(2000, 300)),
            ),
            test_cfg=dict(rpn=dict(nms_post=1000, **_proposals(1000, 300))),
        ),
    )  # fmt: skip
    return dict(none={}, rpn=plain, **{'ga-rpn': guided})


# -- heads ----------------------------------------------------------------------------------------------------------


def _heads() -> dict[str, dict[str, Any]]:
    """Heads. The paper has a Cascade of four stages too; its last IoU and loss weight are unpublished: left out."""
    return dict(retinanet=_retinanet(), faster=_faster(), cascade2=_cascade(2), cascade3=_cascade(3))


def _retinanet() -> dict[str, Any]:
    head = dict(
        type='RetinaHead',
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4, scales_per_octave=3, ratios=_RATIOS),
        bbox_coder=_coder(1.0, 1.0, 1.0, 1.0),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True, gamma=2.0, alpha=0.25),
        loss_bbox=dict(type='L1Loss'),
    )
    single = dict(_delete_=True, type='AnchorGenerator', scales=_C4_SCALES, ratios=_RATIOS)
    return dict(
        model=dict(
            type='RetinaNet',
            bbox_head=head,
            train_cfg=dict(
                assigner=_assigned(0.5, 0.4, 0), sampler=dict(type='PseudoSampler'), allowed_border=-1, pos_weight=-1,
                debug=False,
            ),
            test_cfg=dict(
                nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5),
                max_per_img=100,
            ),
        ),
        needs=dict(rpn='none'),
        when=[
            # Levels after the backbone's last are convolutions, as in RetinaNet's paper.
            dict(neck='fpn-*', model=dict(neck=dict(add_extra_convs='on_output'))),
            dict(neck='c4', model=dict(bbox_head=dict(anchor_generator=single))),
        ],
    )  # fmt: skip


def _boxes(kind: str, stds: list[float], agnostic: bool, **settings: Any) -> dict[str, Any]:
    return dict(
        type=kind,
        bbox_coder=_coder(*stds),
        reg_class_agnostic=agnostic,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0) if agnostic else dict(type='L1Loss'),
        **settings,
    )


def _roi_layers(output_size: int) -> dict[str, Any]:
    return dict(
        type='SingleRoIExtractor', roi_layer=dict(type='RoIAlign', output_size=output_size, sampling_ratio=0)
    )  # fmt: skip


def _rcnn_training(iou: float, rois: int) -> dict[str, Any]:
    return dict(
        assigner=_assigned(iou, iou, iou, match_low_quality=False), sampler=_sampled(rois, 0.25, True), pos_weight=-1,
        debug=False,
    )  # fmt: skip


_FC = dict(fc_out_channels=1024, roi_feat_size=7)
_TEST = dict(score_thr=0.05, nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)


def _faster() -> dict[str, Any]:
    """Two FC layers with FPN; with C4, which the paper leaves open, mmdet's: stage 4 as shared head, and averaging."""
    stds = [0.1, 0.1, 0.2, 0.2]
    c4 = dict(_boxes('BBoxHead', stds, False), _delete_=True, with_avg_pool=True, roi_feat_size=7)
    return dict(
        model=dict(
            type='FasterRCNN',
            roi_head=dict(
                type='StandardRoIHead',
                bbox_roi_extractor=_roi_layers(7),
                bbox_head=_boxes('Shared2FCBBoxHead', stds, False, **_FC),
            ),
            train_cfg=dict(rcnn=_rcnn_training(0.5, 512)),
            test_cfg=dict(rcnn=_TEST),
        ),
        needs=dict(rpn='rpn'),
        when=[dict(neck='c4', model=dict(roi_head=dict(bbox_roi_extractor=_roi_layers(14), bbox_head=c4)))],
    )


def _cascade(stages: int) -> dict[str, Any]:
    """IoUs, loss weights, samples and the changes for GA-RPN are those of the authors' early implementation."""
    stds = [[0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [0.033, 0.033, 0.067, 0.067]][:stages]
    guided_stds = [[round(std * 0.75, 6) for std in stage] for stage in stds]
    guided_ious = [0.6, 0.7, 0.75][:stages]
    guided = dict(
        roi_head=dict(bbox_head=[dict(bbox_coder=dict(target_stds=stage)) for stage in guided_stds]),
        train_cfg=dict(rcnn=[_rcnn_training(iou, 256) for iou in guided_ious]),
        test_cfg=dict(rcnn=dict(score_thr=1e-3)),
    )
    return dict(
        model=dict(
            type='CascadeRCNN',
            roi_head=dict(
                type='CascadeRoIHead',
                num_stages=stages,
                stage_loss_weights=[1, 0.5, 0.25][:stages],
                bbox_roi_extractor=_roi_layers(7),
                bbox_head=[_boxes('Shared2FCBBoxHead', stage, True, **_FC) for stage in stds],
            ),
            train_cfg=dict(rcnn=[_rcnn_training(iou, 384) for iou in [0.5, 0.6, 0.7][:stages]]),
            test_cfg=dict(rcnn=_TEST),
        ),
        needs=dict(rpn=['rpn', 'ga-rpn']),
        when=[dict(rpn='ga-rpn', model=guided)],
    )
