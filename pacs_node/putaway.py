"""The last step of every DICOM door: on stable storage and committed, or a status that says why not."""

from __future__ import annotations

import structlog
from sqlalchemy.exc import SQLAlchemyError

from config.standing import Standing
from db import Database
from db.intake import Accepted, Arrival, IntakePaused, Origin, QueueFull, intake
from db.objects import ObjectStore, StoreError, StoreFull
from db.trouble import Trouble, advice, trouble
from pacs_node import statuses
from pacs_node.received import Answer
from pacs_node.spool import NO_ROOM

log = structlog.get_logger(__name__)
_no_database = Standing(log, "store.database")


def put_away(
    database: Database, store: ObjectStore, arrival: Arrival, origin: Origin, *, max_waiting: int
) -> Accepted | Answer:
    """Make an object durable and queue its job; an :class:`Answer` of A700 where that cannot be done now."""
    try:
        accepted = intake(database, store, arrival, origin, max_waiting=max_waiting)
        _no_database.over()
        return accepted
    except IntakePaused:
        return Answer(statuses.OUT_OF_RESOURCES, "intake is paused, send again later")
    except QueueFull:
        return Answer(statuses.OUT_OF_RESOURCES, "too many images are waiting")
    except StoreFull:
        return Answer(statuses.OUT_OF_RESOURCES, NO_ROOM)
    except StoreError:
        return Answer(statuses.OUT_OF_RESOURCES, "the storage does not answer")
    except SQLAlchemyError as error:
        return no_database(error)


def no_database(error: SQLAlchemyError) -> Answer:
    """What is answered while the database fails; its own words may hold patient data and are not logged."""
    kind = trouble(error)
    _no_database.there(why=advice(error), error=type(error).__name__)
    return Answer(
        statuses.OUT_OF_RESOURCES, NO_ROOM if kind is Trouble.FULL else "the database does not answer"
    )
