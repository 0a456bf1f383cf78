"""`python -m cxr_sr` is `cxr-sr`; the supervisor starts its roles this way."""

from __future__ import annotations

from cxr_sr.cli import main

if __name__ == "__main__":
    main()
