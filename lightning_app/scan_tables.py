"""How a cell keeps its tables: one row per scan, or per scan and threshold, as parquet."""

from __future__ import annotations

import io

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    """Turn a table into a parquet file that is small and quickly read.

    A cell's table has few rows and many columns. What parquet says about each column by default, for queries
    over large files, takes several times the room of the values, and reading it half as long again as the
    values; a report over ten thousand cells reads all of it.

    Args:
        frame: Columns of numbers, strings and truth values; the index is left out.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, store_schema=False, use_dictionary=False, write_statistics=False)
    return buffer.getvalue()
