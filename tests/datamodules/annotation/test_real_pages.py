"""Six real colour pages with their signals and drawn geometry; turned grey, and thresholded to 1 bit."""

import json

import cv2
import numpy as np
import pytest

from datamodules.annotation.matching import annotate_page
from datamodules.layout import load_layout
from datamodules.page import read_page
from datamodules.signals import to_recording
from datamodules.wfdb_files import read_record
from tests.shared import SHARED, needs_shared

FOLDER = SHARED / "pages" / "ludb"


@needs_shared
@pytest.mark.parametrize(
    ("record", "kind"),
    [
        ("022", "grey"),
        ("152", "binary"),
        *(pytest.param(x, "grey", marks=pytest.mark.slow) for x in ("001", "008", "044", "145", "152")),
        *(pytest.param(x, "binary", marks=pytest.mark.slow) for x in ("001", "008", "022", "044", "145")),
    ],
)
def test_every_lead_lies_where_it_was_drawn(record, kind):
    drawn = json.loads((FOLDER / "geometry.json").read_text())
    ink = read_page(FOLDER / f"{record}.png").ink
    if kind == "binary":
        ink = np.asarray(cv2.threshold(ink, 0, 255, cv2.THRESH_OTSU)[1])
    recording = to_recording(read_record(FOLDER / record), record)
    found = annotate_page(ink, recording, [load_layout("3x4+1")], drawn["px_per_s"], drawn["px_per_mV"])
    assert found.unresolved == ()
    for lead in found.leads:
        assert abs(lead.x_px - lead.segment.start_s * drawn["px_per_s"] - drawn["x0"]) <= 1.0
        assert abs(lead.y_px - drawn["rows_baseline_y"][lead.segment.row]) <= 1.0
    assert abs(found.time_scale - 1) < 0.005
    assert abs(found.amplitude_scale - 1) < 0.01
