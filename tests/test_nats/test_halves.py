"""The weights and α are trained on different images, or the search says that they are not."""

import pytest

from detnas_mm.errors import DetNASError
from detnas_mm.systems.nats.halves import check_images, check_settings


class Files:
    """A data set of image files, or of ids."""

    def __init__(self, *names, folder='images', key='img_path'):
        self.infos = [{key: f'{folder}/{name}' if key == 'img_path' else name} for name in names]

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


class Both:
    """A data set that wraps others."""

    def __init__(self, *datasets):
        self.datasets = datasets


def dataset(**changes):
    return dict(
        type='CocoDataset', data_root='data/mine/', ann_file='a.json', data_prefix=dict(img='images/'), **changes
    )


def test_one_file_for_both_is_refused():
    flips = [dict(type='RandomFlip')]
    ours, theirs = dict(batch_size=1, dataset=dataset(pipeline=[])), dict(batch_size=2, dataset=dataset(pipeline=flips))
    with pytest.raises(DetNASError, match=r"same data set \(ann_file='a.json', data_root='data/mine/'.*shared_images"):
        check_settings(ours, theirs)
    repeated = [dict(dataset=dict(type='RepeatDataset', times=2, dataset=one['dataset'])) for one in (ours, theirs)]
    with pytest.raises(DetNASError, match='same data set'):
        check_settings(*repeated)
    check_settings(dict(dataset=dataset(indices=4)), dict(dataset=dataset(indices=-4)))  # of one file, but other images
    check_settings(ours, None)


def test_images_of_both_are_counted():
    def warned(weights, alpha):
        lines = []
        check_images(weights, alpha, lines.append)
        return lines

    weights = Files('1.jpg', '2.jpg', '3.jpg')
    (line,) = warned(weights, Files('3.jpg', '4.jpg', '2.jpg', '5.jpg'))
    assert line.startswith('2 of the 4 images of train_cfg.alpha_dataloader are images of train_dataloader as well.')
    assert not warned(weights, Files('4.jpg')) and not warned(weights, Files('1.jpg', folder='others'))
    for alpha in (weights, Files('2.jpg'), Both(Files('2.jpg'), Files('1.jpg', folder='./images/../images'))):
        with pytest.raises(DetNASError, match=r'^All \d images of train_cfg.alpha_dataloader .*allow_shared_images'):
            warned(weights, alpha)
    assert len(warned(Files(7, 8, key='img_id'), Files(8, 9, key='img_id'))) == 1
    assert not warned(Files(7, 8, key='gt_label'), Files(7, 8, key='gt_label'))  # nothing says which images these are


def test_a_linked_folder_is_the_same(tmp_path):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'linked').symlink_to('images')
    with pytest.raises(DetNASError, match='^All 1 images'):
        check_images(Files('1.jpg', folder=tmp_path / 'images'), Files('1.jpg', folder=tmp_path / 'linked'), print)
