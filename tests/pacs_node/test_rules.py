"""The rules decide as values: what is enhanced, how much, and where it goes."""

from __future__ import annotations

import pytest

from config import Destination, Settings
from config.settings import EnhancerSettings, Rule
from db.states import Priority
from pacs_node.rules import Asked, choose_scale, decide, matches, most_urgent
from tests import dicom_variants as variants

ENHANCER = EnhancerSettings()
PACS = Destination(name="pacs", ae_title="PACS", host="a", port=104)
RESEARCH = Destination(name="research", ae_title="RES", host="b", port=104, default=False)
UPLOAD = Asked(kind="upload")


def settings(*rules: Rule, **enhancer) -> Settings:
    return Settings(rules=rules, destinations=(PACS, RESEARCH), enhancer=EnhancerSettings(**enhancer))


def verdict(ds, asked=Asked(), rules=()):  # noqa: B008 - frozen
    decision = decide(ds, ds.Rows, ds.Columns, asked, settings(*rules))
    return decision.code or decision.action


@pytest.mark.parametrize(
    ("ds", "expected"),
    [
        (variants.cr(), "enhance"),
        (variants.dx(), "enhance"),
        (variants.dx(for_processing=True), "for-processing"),
        (variants.cr(QualityControlImage="YES"), "quality-control"),
        (variants.cr(SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "sop-class"),
        (variants.cr(ViewPosition="LL"), "not-frontal"),
        (variants.cr(ViewPosition="LATERAL"), "not-frontal"),
        (variants.cr(ViewPosition="AP"), "enhance"),
        (variants.cr(BodyPartExamined="HIP"), "not-chest"),
        (variants.cr(BodyPartExamined="EXTREMITY"), "not-chest"),
        (variants.secondary_capture(), "modality"),
        (variants.cr(PatientSpeciesDescription="Canis familiaris"), "animal"),
        (variants.cr(PatientSpeciesDescription="Homo sapiens"), "enhance"),
        (variants.cr(BodyPartExamined=None, StudyDescription="", SeriesDescription=""), "body-part-unknown"),
    ],
)
def test_the_default_rule_takes_frontal_chests_that_came_by_dicom(ds, expected):
    assert verdict(ds) == expected


def test_a_skip_says_why_in_a_sentence_without_patient_data():
    decision = decide(variants.cr(BodyPartExamined="HIP"), 96, 80, Asked(), settings())

    assert decision.reason == "It does not show the chest but: HIP."
    assert decision.rule == "default"


def test_the_default_rule_returns_results_to_every_default_destination():
    assert decide(variants.cr(), 96, 80, Asked(), settings()).destinations == ("pacs",)


def test_an_upload_goes_nowhere_unless_a_destination_was_chosen():
    assert decide(variants.cr(), 96, 80, UPLOAD, settings()).destinations == ()
    asked = Asked(kind="upload", destinations=("research",))
    assert decide(variants.cr(), 96, 80, asked, settings()).destinations == ("research",)


def test_an_upload_that_says_nothing_is_taken_at_the_persons_word():
    ds = variants.secondary_capture(BodyPartExamined=None, StudyDescription="", SeriesDescription="")

    assert verdict(ds, UPLOAD) == "enhance"
    assert verdict(variants.cr(BodyPartExamined="HIP"), UPLOAD) == "not-chest"
    assert verdict(variants.cr(BodyPartExamined="HIP"), Asked(kind="upload", force=True)) == "enhance"


def test_a_picture_is_a_chest_by_being_uploaded():
    ds = variants.secondary_capture(BodyPartExamined="KNEE")

    assert verdict(ds, Asked(kind="upload", is_picture=True)) == "enhance"


@pytest.mark.parametrize(
    ("rows", "columns", "spacing", "wanted", "expected"),
    [
        (440, 440, None, "auto", 4),
        (1024, 800, None, "auto", 4),
        (1025, 800, None, "auto", 2),
        (4608, 3000, None, "auto", 2),
        (4609, 3000, None, "auto", "too-large"),
        (1000, 1000, 0.2, "auto", 4),
        (1000, 1000, 0.15, "auto", 2),
        (2000, 2000, 0.1, "auto", 2),
        (2000, 2000, 0.099, "auto", "too-fine"),
        (2000, 2000, None, 4, 4),
        (2305, 2000, None, 4, "too-large"),
        (1000, 1000, 0.19, 4, "too-fine"),
    ],
)
def test_the_scale_follows_size_and_spacing(rows, columns, spacing, wanted, expected):
    scale = choose_scale(rows, columns, spacing, wanted, ENHANCER)

    assert (scale[0] if isinstance(scale, tuple) else scale) == expected


def test_a_persons_wish_wins_over_the_rule_and_the_rule_over_the_settings():
    rule = Rule(name="r", scale=4, model="srresnet")
    ds = variants.cr()

    by_rule = decide(ds, 96, 80, Asked(), settings(rule))
    by_wish = decide(ds, 96, 80, Asked(kind="upload", scale=2, model="srgan"), settings(rule))

    assert (by_rule.scale, by_rule.model) == (4, "srresnet")
    assert (by_wish.scale, by_wish.model) == (2, "srgan")
    assert decide(ds, 96, 80, Asked(), settings(model="own")).model == "own"


def test_the_first_rule_that_matches_decides():
    rules = (
        Rule(name="no room 3", match={"StationName": "ROOM3"}, action="skip"),
        Rule(
            name="all",
            priority="stat",
            destinations=("research",),
            release="review",
            forward_original="always",
        ),
    )

    left_out = decide(variants.cr(), 96, 80, Asked(), settings(*rules))
    taken = decide(variants.cr(StationName="ROOM4"), 96, 80, Asked(), settings(*rules))

    assert (left_out.action, left_out.rule) == ("skip", "no room 3")
    assert (taken.rule, taken.priority, taken.destinations) == ("all", Priority.STAT, ("research",))
    assert (taken.release, taken.forward_original) == ("review", "always")


def test_a_rule_may_take_laterals_but_never_our_own_results_or_raw_images():
    rule = (Rule(name="laterals", match={"ViewPosition": "LL"}),)

    assert verdict(variants.cr(ViewPosition="LL"), rules=rule) == "enhance"
    assert verdict(variants.dx(for_processing=True, ViewPosition="LL"), rules=rule) == "for-processing"


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"BodyPartExamined": "CHEST"}, True),
        ({"BodyPartExamined": "chest"}, True),
        ({"BodyPartExamined": "CH?ST"}, True),
        ({"BodyPartExamined": ("HIP", "CH*")}, True),
        ({"BodyPartExamined": "HIP"}, False),
        ({"ImageType": "PRIMARY"}, True),
        ({"ProtocolName": ""}, True),
        ({"BodyPartExamined": ""}, False),
        ({"ProtocolName": "*"}, False),
        ({"CallingAETitle": "MOD*", "BodyPartExamined": "CHEST"}, True),
        ({"CallingAETitle": "OTHER", "BodyPartExamined": "CHEST"}, False),
        ({}, True),
    ],
)
def test_patterns_match_wildcards_several_values_and_missing_ones(match, expected):
    asked = Asked(calling_ae_title="MODALITY")

    assert matches(Rule(name="r", match=match), variants.cr(), asked) is expected


ROOM = Destination(name="room", ae_title="ROOM_1", host="c", port=104, default=False)


@pytest.mark.parametrize(
    ("caller", "expected", "warned"),
    [
        ("ROOM_1", ("pacs", "room"), False),
        ("PACS", ("pacs",), False),
        ("NOBODY", ("pacs",), True),
        ("", ("pacs",), True),
    ],
)
def test_a_result_returns_to_the_destination_with_the_callers_title(caller, expected, warned):
    rule = Rule(name="back", return_to_sender=True)
    chosen = Settings(rules=(rule,), destinations=(PACS, ROOM))
    decision = decide(variants.cr(), 96, 80, Asked(calling_ae_title=caller), chosen)

    assert decision.destinations == expected
    assert bool(decision.warnings) is warned
    assert all("no destination has that AE title" in warning for warning in decision.warnings)


def test_an_upload_returns_to_nobody():
    rule = Rule(name="back", return_to_sender=True)
    asked = Asked(kind="upload", calling_ae_title="ROOM_1")
    decision = decide(variants.cr(), 96, 80, asked, Settings(rules=(rule,), destinations=(PACS, ROOM)))

    assert (decision.destinations, decision.warnings) == ((), ())


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"StudyDescription": "QC daily", "BodyPartExamined": "CHEST"}, "phantom"),
        ({"SeriesDescription": "Chest phantom"}, "phantom"),
        ({"BodyPartExamined": "PHANTOM"}, "phantom"),
        ({"PatientName": "Phantom^Chest"}, "phantom"),
        ({"PatientName": "Phantomas^Jo"}, "enhance"),
        ({"PatientBreedDescription": "Beagle"}, "animal"),
    ],
)
def test_phantoms_and_animals_are_left_out_by_default(attributes, expected):
    ds = variants.cr(**attributes)

    assert verdict(ds) == expected
    assert verdict(ds, rules=(Rule(name="all"),)) == "enhance"


def test_a_decision_tells_which_rules_were_passed_over_and_why():
    rules = (
        Rule(name="hip", match={"Anatomy": "HIP"}),
        Rule(name="er", match={"CallingAETitle": "ER*"}),
        Rule(name="chest", match={"Anatomy": "CHEST"}),
        Rule(name="never reached"),
    )
    decision = decide(variants.cr(), 96, 80, Asked(calling_ae_title="WARD"), settings(*rules))

    assert decision.rule == "chest"
    assert [(passed.rule, str(passed.mismatch)) for passed in decision.passed_over] == [
        ("hip", "Anatomy is CHEST, not HIP"),
        ("er", "CallingAETitle is WARD, not ER*"),
    ]


def test_a_fetched_image_waits_behind_everything_clinical_whatever_a_rule_says():
    rule = Rule(name="urgent", match={"Modality": "CR"}, priority="stat")
    ds = variants.cr()

    def priority(kind: str) -> Priority | None:
        return decide(ds, ds.Rows, ds.Columns, Asked(kind=kind), settings(rule)).priority

    assert priority("dimse") == Priority.STAT
    assert priority("fetch") is None


def test_what_the_caller_tells_is_enough_to_queue_an_urgent_image_first():
    emergency = Rule(
        name="er", match={"CallingAETitle": "ER*", "CallingAddress": "192.0.2.0/24"}, priority="stat"
    )
    research = Rule(name="research", match={"CalledAETitle": "RESEARCH"}, priority="bulk")
    portable = Rule(name="portable", match={"CallingAETitle": "WARD", "View": "AP"}, priority="stat")
    everything = (emergency, research, portable)

    assert most_urgent(Asked(calling_ae_title="ER7", address="192.0.2.9"), everything) == Priority.STAT
    assert most_urgent(Asked(calling_ae_title="ER7", address="203.0.113.9"), everything) == Priority.ROUTINE
    assert most_urgent(Asked(called_ae_title="RESEARCH"), everything) == Priority.BULK
    assert most_urgent(Asked(calling_ae_title="CLINIC"), everything) == Priority.ROUTINE


def test_an_image_that_may_turn_out_to_be_urgent_is_queued_as_such():
    portable = Rule(name="portable", match={"CallingAETitle": "WARD", "View": "AP"}, priority="stat")

    assert most_urgent(Asked(calling_ae_title="WARD"), (portable,)) == Priority.STAT
    assert most_urgent(Asked(calling_ae_title="CLINIC"), (portable,)) == Priority.ROUTINE
