"""Every figure of the paper comes out of one command (R35)."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from datamodules.errors import ConfigError, DataError
from lightning_app import figure_commands
from lightning_app.figure_commands import DRAWN, OF_SWEEP, figure
from lightning_app.report import paper_figures
from tests.datamodules.rendering.recordings import beats
from tests.lightning_app.report.synthetic import MODELS, write_sweep


@pytest.fixture
def drawn_signals(monkeypatch):
    """Recordings of milliseconds instead of the generator's."""
    monkeypatch.setattr(paper_figures, "open_signals", lambda *_: None)
    monkeypatch.setattr(paper_figures, "choose_records", lambda _, n, __: ([beats()] * n, []))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    return write_sweep(tmp_path_factory.mktemp("runs") / "toy", MODELS[:2], folds=2, scans=4).root


def run(*arguments):
    return CliRunner().invoke(figure, [str(argument) for argument in arguments], catch_exceptions=False)


def is_drawn(path):
    """A picture of decent size that is neither blank nor black."""
    with Image.open(path) as picture:
        grey = np.asarray(picture.convert("L"))
    assert min(grey.shape) > 300
    assert 0.005 < (grey < 128).mean() < 0.6


@pytest.mark.usefixtures("drawn_signals")
@pytest.mark.parametrize("number", DRAWN)
def test_a_drawn_figure_comes_out(number, tmp_path):
    done = run(number, "--out", tmp_path / "figures")
    assert done.output.strip() == str(tmp_path / "figures" / f"fig{number}.png")
    is_drawn(tmp_path / "figures" / f"fig{number}.png")
    assert (tmp_path / "figures" / f"fig{number}.svg").is_file()


@pytest.mark.parametrize("number", OF_SWEEP)
def test_a_figure_of_a_sweep_comes_out(number, sweep, tmp_path):
    done = run(number, "--out", tmp_path, "--runs", sweep)
    paths = done.output.split()
    assert len(paths) == (2 if number == "4" else 1)
    for path in paths:
        is_drawn(path)


def test_the_paper_figures_are_nine():
    assert len(DRAWN) + len(OF_SWEEP) == 9
    assert set(figure_commands.OF_SWEEP) == {"4", "5a", "5b"}


def test_a_sweep_must_be_named(tmp_path):
    with pytest.raises(ConfigError, match="RUNS_MISSING"):
        run("5a", "--out", tmp_path)


def test_a_sweep_without_other_pages_has_no_figure_5b(tmp_path):
    root = write_sweep(tmp_path / "toy", MODELS[:1], folds=2, scans=4, colour=False).root
    with pytest.raises(DataError, match="NO_FIGURE toy, fig5b"):
        run("5b", "--out", tmp_path / "out", "--runs", root)


def test_the_shapes_of_figure_3_are_the_networks():
    shapes = paper_figures.network_shapes(16)
    assert [channels for _, channels, _ in shapes] == [16, 32, 64, 128, 256, 128, 64, 32, 16]
    assert [side_px for _, _, side_px in shapes] == [128, 64, 32, 16, 8, 16, 32, 64, 128]


@pytest.mark.usefixtures("drawn_signals")
def test_equal_figures_are_equal_bytes(tmp_path):
    for name in ("one", "other"):
        run("s2", "--out", tmp_path / name)
    assert (tmp_path / "one/figs2.png").read_bytes() == (tmp_path / "other/figs2.png").read_bytes()
