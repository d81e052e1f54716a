import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lightning_app.report import figures
from tests.lightning_app.report.synthetic import MODELS, page, prediction_of


def example(title="best", scan=0):
    ink, truth = page(scan)
    return figures.Example(title, ink, truth > 0, prediction_of(MODELS[1], scan) > 0)


def ranking(n=3, *, interval=True):
    return pd.DataFrame(
        {
            "model": [f"m{i}" for i in range(n)],
            "test_set": "cv",
            "dice_mean": np.linspace(0.9, 0.5, n),
            "dice_ci_low": np.linspace(0.88, 0.45, n) if interval else np.nan,
            "dice_ci_high": np.linspace(0.92, 0.55, n) if interval else np.nan,
            "n_scans": 20,
            "n_patients": 19,
            "params": np.geomspace(1e5, 1e7, n),
        }
    )


COLOURS = {f"m{i}": "#2f6fde" for i in range(9)}


@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize("interval", [True, False])
def test_every_chart_draws_one_model_or_nine_with_intervals_or_without(tmp_path, n, interval):
    table = ranking(n, interval=interval)
    figures.save_figure(figures.ranking_figure(table, COLOURS), tmp_path / "a")
    figures.save_figure(figures.cost_figure(table, {"params": "parameters"}, COLOURS), tmp_path / "b")
    further = pd.concat([table.assign(test_set=name) for name in ("x", "y")])
    figure = figures.generalization_figure(further, {"x": "clean", "y": "noisy"}, COLOURS)
    figures.save_figure(figure, tmp_path / "c")
    assert len(list(tmp_path.glob("*.png"))) == len(list(tmp_path.glob("*.svg"))) == 3


def test_bars_are_as_long_as_the_means_and_the_axis_starts_at_zero():
    table = ranking(3)
    axes = figures.ranking_figure(table, COLOURS).axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx(table["dice_mean"].tolist())
    assert axes.get_xlim()[0] == 0
    assert "n = 20 scans of 19 patients" in axes.get_xlabel()


@pytest.mark.parametrize("interval", [True, False])
def test_numbers_of_the_ranking_stand_beside_its_grid(interval):
    figure = figures.ranking_figure(ranking(3, interval=interval), COLOURS)
    axes = figure.axes[0]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent().transformed(axes.transData.inverted()) for text in axes.texts]
    assert min(box.x0 for box in boxes) > max(axes.get_xticks())
    assert max(box.x1 for box in boxes) <= axes.get_xlim()[1]


def test_no_cost_figure_shows_a_dice_below_zero():
    table = ranking(3).assign(dice_mean=[0.02, 0.3, 0.9], dice_ci_low=[0.0, 0.1, 0.8], dice_ci_high=0.95)
    figure = figures.cost_figure(table, {"params": "parameters"}, COLOURS)
    assert figure.axes[0].get_ylim()[0] == 0.0


def test_a_model_that_lacks_a_test_set_leaves_a_gap():
    table = pd.concat([ranking(2).assign(test_set="x"), ranking(1).assign(test_set="y")])
    axes = figures.generalization_figure(table, {"x": "clean", "y": "noisy"}, COLOURS).axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert np.isnan(heights).sum() == 1


def test_equal_figures_are_equal_bytes(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        figures.save_figure(figures.ranking_figure(ranking(), COLOURS), tmp_path / name / "fig")
        figures.save_picture(figures.triplet_picture([example()]), tmp_path / name / "fig4.png")
    for file in ("fig.png", "fig.svg", "fig4.png"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_models_of_one_class_share_a_colour():
    colours = figures.family_colours({"a": "models.fcn.FCN", "b": "models.x.X", "c": "models.fcn.FCN"})
    assert colours["a"] == colours["c"] != colours["b"]


def test_errors_are_painted_where_they_are():
    truth, prediction = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    truth[0, :2] = prediction[0, 1:3] = True  # missed, found, false alarm
    picture = figures.blend(figures.compare(prediction, truth))
    shown = ["#" + bytes(picture[0, x]).hex() for x in range(4)]
    assert shown == [figures.MISSED, figures.RIGHT, figures.FALSE_ALARM, "#ffffff"]


def test_the_zoom_goes_where_the_errors_are():
    truth = np.zeros((600, 800), bool)
    truth[300, :] = True
    prediction = truth.copy()
    prediction[500:520, 700:720] = True
    top, left = figures.zoom_corner(prediction, truth)
    assert top + 256 >= 520
    assert left + 256 >= 720
    assert top + 256 <= 600
    assert left + 256 <= 800


@pytest.mark.parametrize("shape", [(100, 120), (886, 1120), (256, 256)])
def test_pages_of_any_size_give_panels_of_one_height(shape):
    blank = np.zeros(shape, bool)
    pages = [figures.Example("page", np.zeros(shape, np.uint8), blank, blank)] * 2
    picture = figures.triplet_picture(pages)
    rows = figures.TITLE_PX + figures.PANEL_PX + figures.GAP_PX
    assert picture.height == figures.HEAD_PX + 2 * rows + figures.GAP_PX
    assert picture.width >= 6 * figures.GAP_PX


def test_nothing_touches_the_edge_of_a_triplet():
    blank = np.zeros((60, 40), bool)
    page = figures.Example("page", np.zeros(blank.shape, np.uint8), blank, blank)
    picture = np.asarray(figures.triplet_picture([page]))
    margin = np.ones(picture.shape[:2], bool)
    margin[figures.GAP_PX : -figures.GAP_PX, figures.GAP_PX : -figures.GAP_PX] = False
    assert (picture[margin] == 255).all()


def test_thin_strokes_survive_the_shrinking():
    ink = np.zeros((886, 1120), np.uint8)
    ink[400] = 255
    blank = np.zeros(ink.shape, bool)
    picture = np.asarray(figures.triplet_picture([figures.Example("page", ink, blank, blank)]).convert("L"))
    assert picture[figures.HEAD_PX + figures.TITLE_PX + 2 :, 300].min() < 140


def test_header_and_footer_of_foreign_pages_are_blanked():
    plain = example()
    ink, prediction = plain.ink.copy(), plain.prediction.copy()
    ink[:10], prediction[:10] = 255, True  # a name at the top
    rows = np.flatnonzero(plain.truth.any(axis=1))
    masked = figures.mask_margins(figures.Example("x", ink, plain.truth, prediction), margin_px=5)
    assert not masked.ink[: rows[0] - 5].any()
    assert not masked.prediction[: rows[0] - 5].any()
    assert np.array_equal(masked.ink[rows[0] : rows[-1]], ink[rows[0] : rows[-1]])


def test_pictures_carry_no_text_chunks(tmp_path):
    figures.save_picture(figures.triplet_picture([example()]), tmp_path / "p.png")
    figures.save_figure(figures.ranking_figure(ranking(), COLOURS), tmp_path / "f")
    for name in ("p.png", "f.png"):
        with Image.open(tmp_path / name) as picture:
            assert not getattr(picture, "text", {})
