"""Names of records; apart from `record`, since a wrong one is told before any library is loaded."""

from __future__ import annotations

import hashlib
import re
import unicodedata

NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]+")  # WFDB takes no other characters for a record


def record_name(stem: str) -> str:
    """Name a record after its image, in the characters that WFDB takes.

    Accents are dropped and all else becomes an underscore; a name of which nothing is left is told by its
    hash, so that scans with names in other scripts stay apart.

    Args:
        stem: Name of the image without its suffix.

    Example:
        >>> record_name("Müller 2021.05.03")
        'Muller_2021_05_03'
    """
    plain = unicodedata.normalize("NFKD", stem).encode("ascii", "ignore").decode()
    name = NOT_IN_A_NAME.sub("_", plain)
    return name if re.search("[A-Za-z0-9]", name) else f"page_{hashlib.sha256(stem.encode()).hexdigest()[:8]}"
