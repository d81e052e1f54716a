import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.errors import ConfigError
from datamodules.layout import LEADS, known_layouts, load_layout, read_layout

NINE = {"four_line", "six_line", "seven_line", "3x4", "3x4+1", "3x4+3", "6x2", "6x2+1", "12x1"}


def test_nine_layouts_ship():
    assert set(known_layouts()) == NINE


@pytest.mark.parametrize("name", sorted(NINE))
def test_every_layout_shows_all_leads_and_fills_every_row(name):
    layout = load_layout(name)
    assert {segment.lead for segment in layout.segments} == set(LEADS)
    for row in range(layout.n_rows):
        segments = [segment for segment in layout.segments if segment.row == row]
        assert segments[0].start_s == 0
        assert segments[-1].stop_s == layout.duration_s == 10
        for left, right in itertools.pairwise(segments):
            assert left.stop_s == right.start_s


def test_paper_layouts_have_the_rows_the_paper_states():
    # Li et al. 2020, PROTOCOL R5
    assert load_layout("four_line").rows[3:] == (("V1",),)
    assert [row[0] for row in load_layout("six_line").rows[3:]] == ["V1", "II", "V5"]
    assert load_layout("seven_line").n_rows == 7
    assert all("V1" in row for row in (load_layout(name).rows[-1] for name in ("four_line", "seven_line")))


def test_no_two_layouts_are_the_same():
    assert len({layout.rows for layout in known_layouts().values()}) == len(NINE)


def test_rhythm_rows_repeat_an_earlier_lead():
    assert load_layout("four_line").rhythm_rows == (3,)
    assert load_layout("six_line").rhythm_rows == (3, 4, 5)
    assert load_layout("6x2+1").rhythm_rows == (6,)
    assert load_layout("12x1").rhythm_rows == ()
    assert load_layout("3x4").rhythm_rows == ()


def test_second_column_shows_the_second_quarter():
    segment = load_layout("3x4").segments[1]
    assert (segment.lead, segment.row, segment.start_s, segment.stop_s) == ("aVR", 0, 2.5, 5.0)


def test_paper_between_leads_moves_them_on_the_page_but_not_in_time():
    layout = replace(load_layout("3x4+1"), space_s=0.3, early_s=0.1)
    assert layout.paper_s == pytest.approx(10.9)
    _, second, *_, strip = layout.segments
    assert (second.start_s, second.stop_s) == pytest.approx((2.5, 4.9))
    assert (second.left_s, second.right_s) == pytest.approx((2.8, 5.2))
    assert (strip.left_s, strip.right_s) == pytest.approx((0.0, 9.9))


def test_a_file_of_ones_own_is_read_by_its_path(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nduration_s: 8\nrows: [[I, II], [V1]]\n")
    layout = load_layout(path)
    assert layout.segments[1].start_s == 4
    assert layout.rhythm_rows == ()


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"LAYOUT_UNKNOWN.*3x4\+1"):
        load_layout("4x3")


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: ''\nduration_s: -1\nrowz: 3\nrows: [[I, I], [VX], 5]\n")
    with pytest.raises(ConfigError) as error:
        read_layout(path)
    text = str(error.value)
    for part in ("rowz", "name", "duration_s", "row 0: I twice", "row 1: the lead 'VX'", "row 2"):
        assert part in text
    assert len(error.value.problems) == 6


def test_missing_and_huge_files_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="FILE_MISSING"):
        load_layout(tmp_path / "none.yaml")
    path = tmp_path / "huge.yaml"
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(ConfigError, match="FILE_TOO_LARGE"):
        load_layout(path)


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("name: mine\nduration_s: 10\nrows: [[I]]\n")
    with pytest.raises(ConfigError, match="LAYOUT_TWICE"):
        known_layouts(tmp_path)
