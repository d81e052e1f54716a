"""The W&B workspace of a sweep: training curves, results by architecture, overlays.

Built from code so that every team sees the same page; pushed by `inkbeat wandb dashboard`.
"""

from __future__ import annotations

from typing import Any


def workspace(entity: str, project: str, sweep: str) -> Any:
    """Return the unsaved workspace of one sweep.

    Args:
        entity: W&B user or team.
        project: W&B project the runs lie in.
        sweep: The sweep's name, which is the group of its runs.

    Returns:
        A `wandb_workspaces.workspaces.Workspace`; its `save()` needs a login.
    """
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as workspaces
    from wandb_workspaces.expr import And

    training = workspaces.Section(
        name="Training",
        is_open=True,
        panels=[
            panels.LinePlot(title="Training loss", x="epoch", y=["train_loss"]),
            panels.ScalarChart(title="Training time (s)", metric="train_s"),
        ],
    )
    results = workspaces.Section(
        name="Results on held-out scans",
        is_open=True,
        panels=[
            panels.BarPlot(title="Dice, cross-validation", metrics=["dice_mean/cv"], orientation="v"),
            panels.ParallelCoordinatesPlot(
                title="Cost and quality",
                columns=[
                    panels.ParallelCoordinatesPlotColumn(metric="parameters"),
                    panels.ParallelCoordinatesPlotColumn(metric="train_s"),
                    panels.ParallelCoordinatesPlotColumn(metric="dice_mean/cv"),
                ],
            ),
        ],
    )
    pages = workspaces.Section(
        name="Pages: best, median, worst",
        is_open=True,
        panels=[panels.MediaBrowser(media_keys=["overlays"])],
    )
    return workspaces.Workspace(
        entity=entity,
        project=project,
        name=f"Inkbeat: {sweep}",
        sections=[results, training, pages],
        runset_settings=workspaces.RunsetSettings(filters=And(workspaces.Metric("Group") == sweep)),
    )
