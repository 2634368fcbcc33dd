"""Valid and invalid VOC folders; the latter give a one-line error."""

import pytest

from detnas_mm.datasets.voc_folder import check_voc

OBJECT = '<object><name>cat</name><bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>'
SIZE = '<size><width>40</width><height>30</height></size>'


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'Annotations').mkdir()
    for name, inner in (('a', SIZE + OBJECT), ('b', SIZE), ('c', OBJECT)):  # size and objects may be missing
        (tmp_path / 'Annotations' / f'{name}.xml').write_text(f'<annotation>{inner}</annotation>')
    (tmp_path / 'list.txt').write_text('c\na\nb\n')
    return tmp_path


def test_ids_are_in_the_order_of_the_list(folder):
    assert check_voc(folder / 'list.txt', folder) == ['c', 'a', 'b']


@pytest.mark.parametrize(
    'old, new, match',
    [
        ('<xmin>1</xmin>', '', r'a.xml has no bndbox of four finite numbers for object 1 \(cat\) \(1 of the 3 files'),
        ('>9</xmax>', '>nan</xmax>', 'no bndbox of four'),
        ('>9</xmax>', '>nine</xmax>', 'no bndbox of four'),
        ('<name>cat</name>', '', 'a.xml has no name for object 1'),
        ('>40</width>', '>0</width>', 'a.xml has a size without width or height in pixels'),
        ('<height>30</height>', '', 'a.xml has a size without'),
        ('</annotation>', '', 'a.xml is not XML: '),
        ('<annotation>', '<?xml version="1.0" encoding="foo"?><annotation>', 'a.xml is not XML: unknown encoding'),
        (
            f'<annotation>{SIZE}{OBJECT}</annotation>',
            '<html><p/></html>',
            'a.xml is not a VOC annotation file: its root is',
        ),
    ],
)
def test_what_is_wrong_in_a_file_is_named(folder, old, new, match):
    file = folder / 'Annotations' / 'a.xml'
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ValueError, match=match):
        check_voc(folder / 'list.txt', folder)
    assert check_voc(folder / 'list.txt', folder, content=False)


@pytest.mark.parametrize(
    'text, match',
    [
        ('', 'list.txt is empty'),
        ('a\nb\na\n', r"list.txt: images are listed more than once, such as \['a'\]"),
        ('a 1\nb -1\n', r"2 of the 2 images in .*list.txt have no file in .*/Annotations, such as \['a 1', 'b -1'\]"),
    ],
)
def test_what_is_wrong_in_a_list_is_named(folder, text, match):
    (folder / 'list.txt').write_text(text)
    with pytest.raises(ValueError, match=match):
        check_voc(folder / 'list.txt', folder, content=False)


def test_an_empty_file_is_named(folder):
    (folder / 'Annotations' / 'b.xml').write_text('')
    with pytest.raises(ValueError, match='b.xml is empty'):
        check_voc(folder / 'list.txt', folder)


def test_ids_may_hold_blanks(folder):
    (folder / 'Annotations' / 'a.xml').rename(folder / 'Annotations' / 'my pic 1.xml')
    (folder / 'list.txt').write_text('my pic 1\nb\n')
    assert check_voc(folder / 'list.txt', folder) == ['my pic 1', 'b']
