"""How far a sweep is, as people read it."""

import io
import threading
from types import SimpleNamespace

import pytest
from filelock import FileLock
from rich.console import Console

from lightning_app.cells import RUN_LOCK, Store
from lightning_app.progress import Board, View, board_table, watch

AT_WORK = {"stage": "fit", "epoch": 4, "epochs": 20, "step": 50, "steps": 200, "loss": 0.5, "left_s": 30.0}


def board_of(states, spent=None, slots=1, progress=AT_WORK):
    store = SimpleNamespace(
        seconds=(spent or {}).get,
        progress=lambda key: progress,
        result=lambda key: {"dice": {"cv": 0.75}},
    )
    cells = [{"key": key, "model": "U-Net", "fold": 0, "seed": number} for number, key in enumerate(states)]
    return Board(store, cells, states, slots)


def text_of(board):
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(board_table(board))
    return console.export_text()


@pytest.mark.parametrize(
    ("spent", "slots", "expected_s"),
    [
        ({"a": 10.0}, 1, 30.0 + 2 * 10.0),
        ({"a": 10.0}, 2, (30.0 + 2 * 10.0) / 2),
        ({}, 1, 30.0 + 2 * 40.0),  # a quarter of the steps is done, so the whole takes 40 s
    ],
)
def test_time_left_is_estimated_from_cells_done_else_from_those_at_work(spent, slots, expected_s):
    board = board_of({"a": "done", "b": "running", "c": "missing", "d": "missing"}, spent, slots)
    assert board.left_s({"b": AT_WORK}) == pytest.approx(expected_s)


def test_nothing_is_estimated_from_nothing():
    assert board_of({"a": "missing"}).left_s({}) is None


def test_the_table_tells_states_loss_dice_and_time_left():
    states = {"a": "done", "b": "running", "c": "missing", "d": "failed"}
    text = text_of(board_of(states, {"a": 10.0}))
    for told in ("1 done, 1 running, 1 queued, 1 failed", "5/20", "0.500", "0.750", "1/4", "about 40 s left"):
        assert told in text


def test_without_a_terminal_there_are_plain_lines(capsys):
    with View(board_of({"a": "running"})) as view:
        view.say("started U-Net fold 0 seed 0")
    assert capsys.readouterr().out == "started U-Net fold 0 seed 0\n"


def test_watching_ends_with_the_command_and_not_between_two_cells(tmp_path):
    store = Store(tmp_path)
    board = Board(store, [{"key": "a", "model": "U-Net", "fold": 0, "seed": 0}], {})
    with FileLock(tmp_path / RUN_LOCK):
        assert store.is_driven()
        follower = threading.Thread(target=watch, args=(board, 0.01, 0.1))
        follower.start()
        follower.join(0.5)
        assert follower.is_alive(), "no cell runs, but one will"
    follower.join(20)
    assert not follower.is_alive()
