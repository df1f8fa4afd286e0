"""Whether a server is fit: looked at in full by `callboard check`, each finding in one line with its mend."""

from __future__ import annotations

from sqlalchemy import exc

from callboard import databases, errors
from callboard.databases import products

Finding = products.Finding
Level = products.Level


def check(url: str) -> list[Finding]:
    """Look at the server that would be used now. A server that cannot be used is one finding, an unfit one.

    Raises InvalidSetting for a URL that names no database, and for a driver that is missing.
    """
    database = databases.open(url)
    try:
        with database.visit() as on:
            found: list[Finding] = database.product.findings(on, database.server)
            return found
    except errors.StoreError as error:
        failed = error
    except exc.DBAPIError as error:
        failed = database.translated(error.orig or error)
    mend = str(failed.data.get("mend", ""))
    return [Finding(level=Level.UNFIT, what=failed.message.removesuffix(f": {mend}"), mend=mend)]
