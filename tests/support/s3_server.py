"""An S3 server: `python s3_server.py ADDRESS PORT`.

It is moto, but the root element of the answer that completes an upload is renamed to what Arrow looks for.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple


class ArrowNames:
    """A WSGI application around another."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start):
        if environ["REQUEST_METHOD"] != "POST" or "uploadId=" not in environ.get("QUERY_STRING", ""):
            return self.app(environ, start)
        answers = []
        body = b"".join(self.app(environ, lambda status, headers, exc=None: answers.append((status, headers))))
        body = body.replace(b"CompleteMultipartUploadResponse", b"CompleteMultipartUploadResult")
        status, headers = answers[-1]
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]


if __name__ == "__main__":
    application = ArrowNames(DomainDispatcherApplication(create_backend_app))
    run_simple(sys.argv[1], int(sys.argv[2]), application, threaded=True)
