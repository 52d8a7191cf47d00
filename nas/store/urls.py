"""Database URLs: which are understood, and how they are shown without a password."""

from __future__ import annotations

from sqlalchemy import exc
from sqlalchemy.engine import URL, make_url

from nas.errors import StoreError

DEFAULT_STORAGE = "sqlite:///runs/nas.db"


def parse_url(url: str) -> URL:
    """Read a database URL and name its driver.

    Raises: StoreError for anything but an SQLite file or PostgreSQL.
    """
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError):  # of a port that is no number
        raise StoreError(
            f"storage {_stump(url)!r} is no database URL; write e.g. "
            "sqlite:///runs/nas.db or postgresql+psycopg://user@host/name"
        ) from None
    if "@" in (parsed.host or ""):
        raise StoreError(
            f"storage {_stump(url)!r} has more than one '@'; write one in a password as %40"
        )
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise StoreError(
                f"storage {shown(parsed)!r} lives in memory only; a study needs a file, e.g. "
                f"{DEFAULT_STORAGE}"
            )
        return parsed.set(drivername="sqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise StoreError(
        f"storage {shown(parsed)!r}: {backend} is not supported; "
        "use sqlite:/// or postgresql+psycopg://"
    )


def shown(url: URL) -> str:
    """Return a URL as it may be printed, with *** for every password."""
    hidden = url.update_query_dict(dict.fromkeys(_secrets(url), "***"))
    return hidden.render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def without_password(url: URL) -> URL:
    """Return a URL for other programs, which ask for the password or find it in ~/.pgpass."""
    return url._replace(password=None).difference_update_query(_secrets(url))


def _secrets(url: URL) -> list[str]:
    """Return the parameters that libpq takes passwords in: password, sslpassword, and the like."""
    return [key for key in url.query if "password" in key.lower() or "secret" in key.lower()]


def _stump(url: str) -> str:
    """Return what of a URL too odd to take apart cannot be a password."""
    head, at, tail = url.partition("?")[0].rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at else tail
