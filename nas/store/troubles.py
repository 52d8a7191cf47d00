"""What a database driver's error means: whether to try again, and what to tell the user."""

from __future__ import annotations

from sqlalchemy import exc

from nas.errors import StoreError


def is_passing(error: exc.DBAPIError) -> bool:
    """Whether the same transaction may succeed a moment later."""
    if error.connection_invalidated:
        return True
    said = str(error.orig).lower()
    if _is_sqlite(error):
        return "locked" in said or "busy" in said or "disk is full" in said
    # Deadlocks, serialization failures, and a server that is away or on its way up or down.
    return isinstance(error, exc.OperationalError) and not _is_refusal(said)


def goes_down(error: exc.DBAPIError) -> bool:
    """Whether a server was there and goes down or comes up; one that is not there is an error."""
    said = str(error.orig).lower()
    return error.connection_invalidated or any(
        phrase in said
        for phrase in ("terminating connection", "closed the connection", "starting up", "shutting")
    )


def _is_sqlite(error: exc.DBAPIError) -> bool:
    return type(error.orig).__module__.startswith("sqlite3")


def _is_refusal(said: str) -> bool:
    refusals = ("authentication failed", "does not exist", "no password supplied", "denied")
    return any(phrase in said for phrase in refusals)


def store_error(error: exc.DBAPIError, shown: str) -> StoreError:
    """Return what a driver's error means to a user: one line with a remedy, and no password."""
    said = " ".join(str(error.orig).split())
    lowered = said.lower()
    if "not a database" in lowered or "malformed" in lowered:
        remedy = "restore a backup, or give another --storage"
    elif "full" in lowered and "disk" in lowered:
        remedy = "free disk space, then `resume`"
    elif "readonly" in lowered or "unable to open" in lowered:
        remedy = "check the permissions of file and folder, or give another --storage"
    elif "authentication" in lowered or "password" in lowered:
        remedy = "check user and password of --storage"
    elif "no such table" in lowered or "undefined" in lowered:
        remedy = "the schema is damaged; run `db check`"
    else:
        remedy = "check that the database can be reached"
    return StoreError(f"database {shown}: {said[:300]}; {remedy}")
