"""Sending and the dashboard, as far as they go without an account."""

import json

import pytest
from click.testing import CliRunner

from datamodules.errors import ConfigError
from lightning_app.dashboard import workspace
from lightning_app.wandb_commands import wandb_group


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


def invoke(*arguments):
    return CliRunner().invoke(wandb_group, arguments)


def test_sync_lists_the_offline_runs(tmp_path):
    folder = tmp_path / "cells" / "k" / "wandb" / "offline-run-20260101_000000-k"
    folder.mkdir(parents=True)
    result = invoke("sync", str(tmp_path), "--dry-run")
    assert result.exit_code == 0
    assert result.output.split() == [str(folder.relative_to(tmp_path))]


def test_sync_without_a_key_says_how_to_get_one(tmp_path, no_key):
    (tmp_path / "wandb" / "offline-run-20260101_000000-k").mkdir(parents=True)
    error = invoke("sync", str(tmp_path)).exception
    assert isinstance(error, ConfigError)
    assert "wandb login" in str(error)


def test_sync_of_a_folder_without_runs_is_refused(tmp_path):
    assert isinstance(invoke("sync", str(tmp_path)).exception, ConfigError)


# wandb-workspaces itself still declares validators the old way.
@pytest.mark.filterwarnings("ignore:Pydantic V1 style:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*class-based `config`:DeprecationWarning")
def test_dashboard_shows_what_the_cells_record():
    spec = json.loads(workspace("team", "inkbeat", "quick")._to_model().model_dump_json(by_alias=True))
    text = json.dumps(spec)
    for metric in ("train_loss", "dice_mean/cv", "overlays", "train_s"):
        assert metric in text
    assert "quick" in spec["displayName"]
