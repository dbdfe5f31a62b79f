"""The folder where downloaded and converted data are cached."""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """EBM_CACHE, or ebm-pipeline in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.path.expanduser(os.environ.get("EBM_CACHE") or f"{home}/ebm-pipeline"))


def temporary_cache(error: OSError) -> Path:
    """A cache for this process and its children alone, where the other one cannot be written to; it says why."""
    folder = tempfile.mkdtemp(prefix="ebm-cache-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    why = f"the cache {cache_folder()} cannot be written to ({error.strerror or error})"
    print(f"{why}: {folder} serves this command instead", file=sys.stderr)
    os.environ["EBM_CACHE"] = folder
    return Path(folder)
