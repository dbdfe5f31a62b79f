"""Bounds of network sizes, for networks that are built without a recipe."""

from pipeline.errors import InputError


def require_at_least(least: int, **sizes: int) -> None:
    """Raise InputError, naming the argument, where one of `sizes` is below `least`.

    >>> require_at_least(1, width=8, latent_dim=2)
    """
    for name, size in sizes.items():
        if size < least:
            raise InputError(f"must be {least} or more", name, size)
