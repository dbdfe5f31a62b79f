"""Filesystems of URIs, by pyarrow, which give up soon where a store does not answer."""

import os
import re
from urllib.parse import parse_qsl

from pyarrow import fs

S3_TIMEOUT_SECONDS, S3_ATTEMPTS = 5, 3
"""How long a request to an S3 server may go without a byte, and how often it is made."""
GCS_RETRY_SECONDS = 15
"""How long a request to Google's store is repeated, where the URI does not say; pyarrow's default is 15 minutes."""
GCS_EMULATOR = "STORAGE_EMULATOR_HOST"
"""Where Google's own clients find another server; pyarrow has to be told."""


def open_filesystem(uri: str) -> tuple[fs.FileSystem, str]:
    """The filesystem of a URI, and the path in it.

    Raises:
        ValueError, OSError: pyarrow does not know it, or cannot reach it.
    """
    filesystem, path = fs.FileSystem.from_uri(_with_gcs_defaults(uri))
    return (_with_timeouts(filesystem, uri) if filesystem.type_name == "s3" else filesystem), path


def _with_timeouts(filesystem: fs.S3FileSystem, uri: str) -> fs.S3FileSystem:
    """The same filesystem, but it gives up soon, which a URI cannot say; pyarrow's own takes minutes."""
    _, (options, *_) = filesystem.__reduce__()
    if not {name for name, _ in parse_qsl(uri.partition("?")[2])} <= options.keys():
        return filesystem  # what it is made of does not hold all of the query
    timeouts = {"connect_timeout": S3_TIMEOUT_SECONDS, "request_timeout": S3_TIMEOUT_SECONDS}
    return fs.S3FileSystem(**{**options, **timeouts}, retry_strategy=fs.AwsStandardS3RetryStrategy(S3_ATTEMPTS))


def _with_gcs_defaults(uri: str) -> str:
    """A URI of Google's store that gives up soon, and goes where GCS_EMULATOR says; any other URI as it is."""
    if not re.match("gs://|gcs://", uri):
        return uri
    parameters = {} if "retry_limit_seconds=" in uri else {"retry_limit_seconds": str(GCS_RETRY_SECONDS)}
    if (server := os.environ.get(GCS_EMULATOR)) and "endpoint_override=" not in uri:
        scheme, _, host = server.rpartition("://")
        parameters |= {"endpoint_override": host.rstrip("/"), "scheme": scheme or "http"}
        uri = re.sub("://(?:anonymous@)?", "://anonymous@", uri, count=1)
    more = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"{uri}{'&' if '?' in uri else '?'}{more}" if more else uri
