# Stage 1 of SM-NAS on Digits with backbones found by DetNAS, MAE-DET and NATS, and a ResNet. Their channels and strides
# are found by running them once; the net of NATS keeps its convolutions, whose dilations were searched.
#   python tools/search.py configs/digits/smnas-digits_structural-found.py
_base_ = './smnas-digits_structural.py'
search = dict(
    space=dict(
        factors=dict(
            backbone=dict(
                _delete_=True,
                resnet18=dict(base='resnet18', model=dict(backbone=dict(base_channels=16)), channels=(16, 32, 64, 128)),
                detnas=dict(
                    model=dict(
                        backbone=dict(
                            type='detnas_mm.DetNASNet',
                            arch='2|2|20|3',
                            space=dict(stem=16, channels=(32, 64, 128, 256), blocks=(1, 1, 2, 1)),
                        ),
                    ),
                ),
                maedet=dict(
                    model=dict(
                        backbone=dict(
                            type='detnas_mm.MAEDetNet',
                            arch='8k3s2|24k5s2x1b8|80k5s2x2b12|160k5s2x4b20|248k5s2x1b44',
                        ),
                    ),
                ),
                nats=dict(
                    model=dict(
                        backbone=dict(
                            type='detnas_mm.DilatedBackbone',
                            plain='mmdet.ResNet',
                            depth=50,
                            base_channels=8,
                            stages=['layer2', 'layer3', 'layer4'],
                            genotypes='2x2',
                        ),
                    ),
                    not_taken=['conv_cfg'],
                ),
            ),
        ),
    ),
    costs=dict(latency=dict(file='work_dirs/smnas-digits_structural-found/latency.json')),
)
