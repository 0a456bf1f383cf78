"""What a model says that it has learnt from."""

from __future__ import annotations

import pytest

import enhancer
from enhancer.domain import Domain
from enhancer.errors import ModelFileError


def test_a_domain_comes_back_from_its_text():
    domain = Domain((0.4, 5.0), 48, 0.02)
    assert Domain.from_json(domain.as_json()) == domain


@pytest.mark.parametrize(
    "text", ["", "[]", '{"spacing": [1]}', '{"spacing": ["a", 2], "side": 3, "p999": 1}']
)
def test_what_is_no_domain_is_refused(text):
    with pytest.raises(ModelFileError, match="domain"):
        Domain.from_json(text)


def test_the_shipped_models_have_a_domain():
    for name in enhancer.shipped_names():
        assert enhancer.load(name, "cpu").info.domain is not None


def test_the_shipped_models_bound_their_errors_at_both_scales():
    for name in enhancer.shipped_names():
        assert set(enhancer.load(name, "cpu").bounds) == {2, 4}
