"""The frame of every page: its head, the way to the other pages, the way out."""

from __future__ import annotations

from importlib.resources import files

from pybuild.history.markup import as_text, document, style

STYLE = "/style.css"
LIVE = "/live.js"
_HEAD = f'<link rel="stylesheet" href="{STYLE}">\n'


def framed(title: str, body: str, script: str = "") -> str:
    """Return a page for who has come in.

    Args:
        title: plain text.
        body: markup.
        script: the path of one that it runs.
    """
    scripts = f'<script src="{script}" defer></script>\n' if script else ""
    return document(
        f"{title} - pybuild",
        '<a class="skip" href="#main">to the content</a>\n'
        '<header><nav aria-label="pages"><a href="/">Builds</a>'
        '<a href="/images">Images</a><a href="/containers">Containers</a></nav>\n'
        '<form method="post" action="/leave"><button>Leave</button></form></header>\n'
        f'<main id="main">\n{body}\n</main>',
        _HEAD + scripts,
    )


def notice(title: str, message: str) -> str:
    """Return a page of one sentence, both plain text."""
    body = f"<main>\n<h1>{as_text(title)}</h1>\n<p>{as_text(message)}</p>\n</main>"
    return document(f"{title} - pybuild", body, _HEAD)


def welcome() -> str:
    """Return the page behind a link: it goes on by itself.

    A redirect would be the other site's where the link was followed from one, and come without the cookie.
    """
    body = '<main>\n<h1>Welcome</h1>\n<p><a href="/">To the builds</a></p>\n</main>'
    return document("pybuild", body, f'{_HEAD}<meta http-equiv="refresh" content="0; url=/">\n')


def style_sheet() -> str:
    """Return the style sheet of all pages."""
    return style() + _own("frame.css")


def live_script() -> str:
    """Return the script of a build that goes on."""
    return _own("live.js")


def _own(name: str) -> str:
    return (files("pybuild.web") / name).read_text("utf-8")
