"""Which passwords people may choose: NIST SP 800-63B, 3.1.1.2.

Length, and what guessers try first, count; rules of composition do not, nor does age.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from enum import StrEnum

SHORTEST = 8
"""Characters that a password has at least, whatever is configured."""
LONGEST = 1024


class Weakness(StrEnum):
    """What is wrong with a password; the value says it in English."""

    SHORT = "a password has at least {number} characters"
    LONG = "a password has at most {number} characters"
    NAME = "the password must not contain your name"
    PRODUCT = "the password must not contain the name of this service"
    PATTERN = "the password is a repetition or a sequence, which is guessed first"
    COMMON = "the password is one of the most common ones"

    def said(self, shortest: int) -> str:
        """The sentence with its number."""
        return self.value.format(number=LONGEST if self is Weakness.LONG else shortest)


def weakness(password: str, name: str, *, shortest: int = SHORTEST) -> Weakness | None:
    """What speaks against a password of somebody of that name; None where nothing does."""
    if len(password) < max(shortest, SHORTEST):
        return Weakness.SHORT
    if len(password) > LONGEST:
        return Weakness.LONG
    text, name = _folded(password), _folded(name).strip()
    if len(name) >= 3 and name in text:
        return Weakness.NAME
    if _PRODUCT in re.sub(r"[\W_]", "", text):
        return Weakness.PRODUCT
    if _repeats(text) or _runs(text):
        return Weakness.PATTERN
    return Weakness.COMMON if _is_common(text) else None


_PRODUCT = "cxrsr"
_FEWEST_DIFFERENT = 5
_LONGEST_REPEATED = 6
_SHORTEST_RUN = 3
_ROWS = ("1234567890", "qwertyuiop", "qwertzuiop", "azertyuiop", "asdfghjkl", "zxcvbnm", "yxcvbnm")
_NEXT = frozenset(a + b for row in _ROWS for line in (row, row[::-1]) for a, b in itertools.pairwise(line))
_LEET = str.maketrans("@4301!5$7+8", "aaeoiissttb")
_WORDS = (
    "abc|access|admin|administrator|america|andrew|angel|anthony|arsenal|asdfgh|ashley|austin|bailey|banana|baseball"
    "|basketball|batman|berlin|biteme|blink|boss|buster|butterfly|carlos|changeit|changeme|charlie|cheese|chelsea"
    "|chest|chocolate|clinic|computer|cookie|corvette|dallas|daniel|default|diamond|dicom|doctor|donald|dragon"
    "|eminem|enter|fallout|family|ferrari|flower|football|forever|freedom|friend|friends|fuckyou|gateway|geheim"
    "|george|ginger|golden|google|guest|hallo|hammer|hannah|hardware|harley|hello|hockey|holiday|hospital|hottie"
    "|hunter|iloveu|iloveyou|internet|jasmine|jennifer|jessica|jesus|jordan|joshua|justin|killer|klinik|knight"
    "|krankenhaus|lakers|letmein|liverpool|login|london|looking|love|lovely|lovers|loveyou|maggie|manager|marina"
    "|master|matrix|matthew|mercedes|merlin|michael|michelle|minecraft|monday|monkey|monster|mustang|mynoob|naruto"
    "|nicole|ninja|nothing|orange|pacs|passcode|passport|passw|passwd|password|passwort|patient|pepper|pictures|pokemon"
    "|princess|private|pumpkin|purple|qazwsx|qazwsxedc|qwer|qwert|qwerty|qwertyuiop|qwertz|radiology|radiologie"
    "|rainbow|ranger|robert|rontgen|roentgen|root|samantha|samsung|schalke|schatz|secret|service|shadow|slipknot"
    "|soccer|sommer|sonne|spiderman|spring|starwars|summer|sunday|sunshine|super|superman|support|system|taylor"
    "|temp|tequiero|test|tester|thank|thomas|thunder|tigger|trustno|tweety|unknown|user|welcome|whatever|william"
    "|willkommen|winter|xray|yankees|zaq|zxcvbn|zxcvbnm|you|my|the|is|one|two"
)
_COMMON = re.compile(rf"(?:{_WORDS}){{1,2}}")
"""What lists of leaked passwords are mostly made of, and what people in a radiology think of first. Digits
and signs around and between are not looked at."""
_NO_LETTERS = re.compile(r"[\W\d_]+")
_AROUND = re.compile(r"^[\W\d_]+|[\W\d_]+$")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _repeats(text: str) -> bool:
    """Few characters, or a short piece again and again."""
    if len(set(text)) < _FEWEST_DIFFERENT:
        return True
    return any(text == (text[:n] * len(text))[: len(text)] for n in range(1, _LONGEST_REPEATED + 1))


def _runs(text: str) -> bool:
    """Nothing but sequences of three or more, of the alphabet, of numbers or of a keyboard's rows."""
    length = 1
    for before, after in itertools.pairwise(text):
        if abs(ord(after) - ord(before)) <= 1 or before + after in _NEXT:
            length += 1
        elif length < _SHORTEST_RUN:
            return False
        else:
            length = 1
    return length >= _SHORTEST_RUN


def _is_common(text: str) -> bool:
    """A word or two that everybody knows, however adorned; or a short number, which is mostly a date."""
    letters = _NO_LETTERS.sub("", text)
    if not letters:
        return len(text) < 2 * SHORTEST
    disguised = _NO_LETTERS.sub("", _AROUND.sub("", text).translate(_LEET))
    return any(_COMMON.fullmatch(plain) for plain in (letters, disguised))
