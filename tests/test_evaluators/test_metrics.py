import pytest

from detnas_mm.evaluators import metrics


def test_the_digest_follows_contents_and_settings_and_not_the_folder(tmp_path):
    files = []
    for name, text in (('a', 'boxes'), ('b', 'boxes'), ('c', 'others')):
        (tmp_path / name).mkdir()
        files.append(tmp_path / name / 'instances.json')
        files[-1].write_text(text)
    first, same, other = (metrics.metric_digest(dict(type='CocoMetric', ann_file=str(f))) for f in files)
    assert first == same != other
    assert metrics.metric_digest(dict(type='CocoMetric', ann_file=str(files[0]), metric=['bbox'])) != first


def test_a_metric_that_the_family_lacks_has_a_stand_in(monkeypatch):
    wanted = dict(type='mmdet.FasterCocoMetric', metric='bbox')
    monkeypatch.setattr(metrics, '_has_faster_coco', lambda: False)
    assert metrics.available(wanted) == dict(type='mmdet.CocoMetric', metric='bbox')
    assert metrics.available([wanted]) == [dict(type='mmdet.CocoMetric', metric='bbox')]
    assert wanted['type'] == 'mmdet.FasterCocoMetric'
    monkeypatch.setattr(metrics, '_has_faster_coco', lambda: True)
    assert metrics.available(wanted) == wanted


def test_the_family_at_hand_has_what_its_mmdet_has():
    import mmdet.evaluation

    assert metrics._has_faster_coco() == hasattr(mmdet.evaluation, 'FasterCocoMetric')


def test_more_than_one_metric_is_refused():
    with pytest.raises(ValueError, match='one metric; got 2'):
        metrics.build_metric([dict(type='CocoMetric'), dict(type='VOCMetric')], {})
