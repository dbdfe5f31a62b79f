"""URIs of folders as text: joining names, and leaving out what nobody else may read. Quick to import."""

import re
from urllib.parse import quote

URI_CHARACTERS = "%/:?[]@!$&'()*+,;=~"
"""What stays as it is in a URI; `#` is not among them, since it would cut off the rest of a name."""
CREDENTIALS = re.compile(r"(?P<scheme>\w+://)(?P<user>[^/@\s?:]*):(?P<password>[^@\s?]*)@")
SECRET_PARAMETER = re.compile(r"(?<=[?&])\w*(?:secret|password|token|key)\w*=[^&\s]*&?", re.IGNORECASE)


def is_uri(place: str) -> bool:
    """Whether a place is a URI, rather than a local path."""
    return "://" in place


def encode(uri: str) -> str:
    """A URI as people type it, with spaces, letters of any script and `#`, as a URI; what is encoded stays so."""
    scheme, _, rest = uri.partition("://")
    if scheme == "file":  # local names may hold a question mark, and file URIs have no query
        rest = rest.replace("?", "%3F")
    return f"{scheme}://{quote(rest, safe=URI_CHARACTERS)}"


def join(uri: str, name: str) -> str:
    """The URI of a name in the folder at `uri`, before its query."""
    folder, mark, query = uri.partition("?")
    return f"{folder.rstrip('/')}/{quote(name)}{mark}{query}"


def parent(uri: str) -> str:
    """The URI of the folder that holds the file or folder at `uri`."""
    place, mark, query = uri.partition("?")
    return f"{place.rstrip('/').rpartition('/')[0]}{mark}{query}"


def without_secrets(text: str) -> str:
    """The text without the user names, passwords and keys of URIs in it.

    >>> without_secrets("error: s3://name:password@bucket/run?scheme=http")
    'error: s3://bucket/run?scheme=http'
    """
    return re.sub(r"\w+://\S+", lambda uri: SECRET_PARAMETER.sub("", CREDENTIALS.sub(r"\g<scheme>", uri[0])), text)
