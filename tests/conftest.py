"""Markers of the suite."""

MARKERS = {
    'slow': 'trains, searches or starts other programs for more than a few seconds',
    'packaging': 'builds distributions of this package and looks into them',
    'smoke': 'part of the slice that runs with both families of OpenMMLab distributions',
}


def pytest_configure(config):
    for name, meaning in MARKERS.items():
        config.addinivalue_line('markers', f'{name}: {meaning}')
