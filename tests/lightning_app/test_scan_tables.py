import io

import numpy as np
import pandas as pd

from lightning_app.scan_tables import parquet_bytes

FRAME = pd.DataFrame(
    {
        "scan_id": ["a", "b", "ü"],
        "digitized": ["read", None, ""],
        "nothing": [None, None, None],
        "dice": [0.1, np.nan, 1 / 3],
        "threshold": np.array([0.15, 0.2, 0.25], np.float32),
        "fold": [0, 1, 2**40],
        "tp": np.array([0, 1, 255], np.uint8),
        "is_rhythm": [True, False, True],
    },
    index=[7, 3, 5],
)


def test_a_table_comes_back_as_from_pandas_own_writer():
    usual = io.BytesIO()
    FRAME.to_parquet(usual, index=False)
    ours, theirs = pd.read_parquet(io.BytesIO(parquet_bytes(FRAME))), pd.read_parquet(usual)
    pd.testing.assert_frame_equal(ours, theirs)
    pd.testing.assert_frame_equal(ours, FRAME.reset_index(drop=True))


def test_equal_tables_are_equal_bytes():
    assert parquet_bytes(FRAME) == parquet_bytes(FRAME.copy())
