"""Where alerts can go: addresses as Apprise writes them. They hold passwords and are never shown."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Any


def target(url: str) -> Any | None:
    """Apprise's object for an address, None when it knows none such."""
    logging.getLogger("apprise").propagate = False  # it would write addresses into our log
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # some of its plugins import what is going away
        from apprise import Apprise, AppriseAsset

        asset = AppriseAsset(app_id="cxr-sr", app_desc="cxr-sr", app_url="", async_mode=False)
        return Apprise.instantiate(url, asset=asset, suppress_exceptions=True)


def alert_targets(urls: tuple[str, ...]) -> tuple[str, ...]:
    """The addresses themselves when alerts can go to each. Raises ValueError, which repeats no address."""
    for number, url in enumerate(urls, start=1):
        if target(url) is None:
            scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*(?=://)", url)
            what = f"begins with {scheme[0]}://, but" if scheme else "is no SCHEME://... and"
            raise ValueError(f"expected addresses that Apprise knows; number {number} {what} is none of them")
    if len(set(urls)) < len(urls):
        raise ValueError("expected different addresses, one stands twice")
    return urls
