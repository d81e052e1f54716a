"""Whether and how runs are recorded with W&B; apart from the recording, since it is asked for without it."""

from __future__ import annotations

import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

SLOW_IMPORTS = ("wandb", "wandb.sdk.launch.inputs.internal")  # wandb.init imports the second for every run

Mode = Literal["offline", "online", "disabled"]


def tracking_mode(environ: Mapping[str, str] = os.environ) -> Mode:
    """Return how runs are recorded: `WANDB_MODE` if set, else online only where a key is configured."""
    asked = environ.get("WANDB_MODE", "").lower()
    if asked in ("disabled", "offline", "online"):
        return asked  # type: ignore[return-value]
    return "online" if _key_is_configured(environ) else "offline"


def _key_is_configured(environ: Mapping[str, str]) -> bool:
    if environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    path = Path(environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return netrc.netrc(path).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False
