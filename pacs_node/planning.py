"""From an examination to a plan: what the source is to earlier ones, what is made of it, under which names.

All of it is one transaction, before anything is enhanced.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy.orm import Session

from config import Settings
from db import events, queue
from db.leases import Lease
from db.states import Relation
from enhancer import DeviceError, ModelFileError, ModelInfo
from pacs_node import records, rules, uids
from pacs_node.enhancement import Enlarger
from pacs_node.errors import GiveUp, Outcome, Refusal, TryLater
from pacs_node.examine import Examination
from pacs_node.models import ModelSource, NoSuchModel
from pacs_node.rules import Decision
from pacs_node.tasks import Task


@dataclass(frozen=True, slots=True)
class Reusable:
    """A stored result on the same pixels by the same model: its object and figures."""

    object_key: str
    sha256: str
    figures: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What will be made; the UIDs stand in the job already."""

    decision: Decision
    model: Enlarger
    uids: uids.ResultUids
    reuse: Reusable | None


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans jobs of one worker, called `actor` in the events."""

    settings: Settings
    models: ModelSource
    installation: UUID
    actor: str

    def decide(self, task: Task, examined: Examination) -> tuple[Decision, Enlarger | None] | None:
        """The decision and the model it needs; None where nothing was decoded. Loads the model at its
        first use.

        Raises :class:`GiveUp`, :class:`TryLater`.
        """
        if examined.image is None:
            return None
        fmt = examined.image.format
        decision = rules.decide(examined.header, fmt.rows, fmt.columns, task.asked, self.settings)
        if decision.action == "skip":
            return decision, None
        try:
            model = self.models.get(decision.model)
        except NoSuchModel as error:
            raise GiveUp("model", str(error)) from error
        except ModelFileError as error:  # damaged or gone: it may be put back
            raise TryLater("model", str(error)) from error
        except DeviceError as error:
            raise TryLater("device", str(error)) from error
        if decision.scale not in model.info.scales:
            raise GiveUp("model", f"The model {model.info.name} does not enlarge x{decision.scale}.")
        return decision, model

    def write(
        self,
        session: Session,
        lease: Lease,
        task: Task,
        examined: Examination,
        decided: tuple[Decision, Enlarger | None] | None,
        preview_key: str | None,
    ) -> Plan | None:
        """Write down what the source is and what will be made of it; None where the job ends here.

        Raises :class:`db.leases.LeaseLost`, :class:`TryLater`.
        """
        job = queue.held(session, lease)
        source = job.source
        related = records.note_examination(session, source, examined, by_person=task.by_person)
        source.preview_key = source.preview_key or preview_key
        events.record(session, job.id, "examined", message=_said(examined, related), actor=self.actor)
        if examined.refusal is not None or decided is None:
            assert examined.refusal is not None
            self.refuse(session, lease, examined.refusal)
            return None
        if not task.by_person and self._ended_by_relation(session, lease, related):
            return None
        decision, model = decided
        if model is None:
            job.rule = decision.rule
            queue.skip(session, lease, decision.code, decision.reason, actor=self.actor)
            if related.relation is Relation.AMENDMENT and not task.by_person:
                # nothing new is made of it, and what was made shows what is no longer true
                records.retract_amended(session, source, job, actor=self.actor)
            return None
        version = records.model_version(session, model.info)
        names = self._unused_uids(session, examined, decision, model.info)
        claimed_as = job.priority
        job = queue.note_plan(
            session,
            lease,
            rule=decision.rule,
            scale=decision.scale,
            model=version,
            result_series_uid=names.series,
            result_sop_uid=names.instance,
            release=decision.release,
            priority=decision.priority,
        )
        if job.priority > claimed_as and queue.overtaken(session, job):
            # it was looked at before others because it might have been urgent; it is not
            queue.give_back(session, lease, actor=self.actor)
            return None
        assert job.result_series_uid is not None
        assert job.result_sop_uid is not None
        reuse = None
        if related.relation is not Relation.ORIGINAL:
            old = records.reusable_result(session, source, version.id, decision.scale)
            reuse = Reusable(old.object_key, old.sha256, dict(old.figures)) if old is not None else None
        return Plan(decision, model, uids.ResultUids(job.result_series_uid, job.result_sop_uid), reuse)

    def refuse(self, session: Session, lease: Lease, refusal: Refusal) -> None:
        """End the job as the refusal's reason asks. Raises :class:`TryLater` for one that may pass."""
        if refusal.outcome is Outcome.RETRY:
            raise TryLater(refusal.reason.value, refusal.sentence)
        end = queue.skip if refusal.outcome is Outcome.SKIP else queue.fail
        end(session, lease, refusal.reason.value, refusal.sentence, actor=self.actor)

    def _ended_by_relation(self, session: Session, lease: Lease, related: records.Related) -> bool:
        """Whether a resend or a conflict ends the job. (A person who asks for it again gets it.)"""
        if related.relation is Relation.RESEND:
            assert related.to is not None
            earlier = records.already_served(session, related.to)
            if earlier is None:
                return False
            reason = f"The same image came before; see job {earlier.id}."
            queue.skip(session, lease, "resend", reason, actor=self.actor)
            return True
        if related.relation is Relation.CONFLICT:
            reason = "Another image came before under the same SOP Instance UID; this one is kept apart."
            queue.fail(session, lease, "uid-conflict", reason, actor=self.actor)
            return True
        return False

    def _unused_uids(
        self, session: Session, examined: Examination, decision: Decision, model: ModelInfo
    ) -> uids.ResultUids:
        """The result's UIDs, others than those of a result that was taken back: archives hide those."""
        taken_back = 0
        while True:
            names = self._uids(examined, decision, model, taken_back)
            if not records.was_taken_back(session, names.instance):
                return names
            taken_back += 1

    def _uids(
        self, examined: Examination, decision: Decision, model: ModelInfo, taken_back: int
    ) -> uids.ResultUids:
        said = examined.facts
        assert examined.pixel_digest is not None
        return uids.result_uids(
            self.installation,
            study=said.study.uid,
            source_series=said.series.uid,
            source_instance=said.sop_instance,
            pixel_digest=examined.pixel_digest,
            header_digest=examined.header_digest,
            model=model.name,
            version=model.version,
            weights_digest=model.digest,
            scale=decision.scale,
            settings={"after": taken_back} if taken_back else None,
        )


def _said(examined: Examination, related: records.Related) -> str:
    """The examination in one line without patient data."""
    parts = [related.relation.value]
    if related.to is not None:
        parts.append(f"of source {related.to}")
    if examined.image is not None:
        fmt = examined.image.format
        parts.append(f"{fmt.columns} x {fmt.rows}, {fmt.bits_stored} bits, {fmt.photometric}")
    if examined.dropped:
        parts.append(f"{len(examined.dropped)} unreadable attributes left out")
    return "; ".join(parts)
