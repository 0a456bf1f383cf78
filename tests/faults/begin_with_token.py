"""Makes a database with a user and a token, writes the token to a file, and becomes another program.

`python begin_with_token.py DATABASE_URL TOKEN_FILE PROGRAM ARGUMENT...`: so the very first moments of an
installation can be recorded, and the node has somebody who may upload.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from db import Database, people, schema


def main() -> None:
    url, token_file, *program = sys.argv[1:]
    database = Database(url)
    schema.upgrade(database)
    with database.write() as session:
        user = people.add_user(session, "ada", "radiologist", "a horse that was correct")
        token, _ = people.create_token(session, user, "recording")
    database.close()
    Path(token_file).write_text(token)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
