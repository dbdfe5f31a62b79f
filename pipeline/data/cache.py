"""The folder where downloaded and converted data are cached."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """EBM_CACHE, or ebm-pipeline in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("EBM_CACHE") or f"{home}/ebm-pipeline").expanduser()
