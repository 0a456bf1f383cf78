"""A process that claims jobs until none is left and prints them: `python -m tests.db.claimers URL OWNER`."""

from __future__ import annotations

import sys

from db import Database, queue


def main(url: str, owner: str) -> None:
    database = Database(url)
    print("ready", flush=True)
    sys.stdin.readline()
    while True:
        with database.write() as session:
            lease = queue.claim(session, owner, 60)
        if lease is None:
            break
        print(lease.id, lease.token)
    database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
