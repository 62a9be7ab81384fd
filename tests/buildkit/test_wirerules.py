"""Build checks in the words that BuildKit's clients compare."""

from __future__ import annotations

from pybuild.buildkit.wirerules import in_protocol_words
from pybuild.frontend.lint.catalogue import RULES
from pybuild.model.events import BuildWarning
from pybuild.model.span import Span


def test_every_rule_has_the_protocols_words() -> None:
    for rule in RULES.values():
        ours = BuildWarning(message="m", rule=rule.name, url=rule.url, detail=(rule.description,))
        told = in_protocol_words(ours)
        assert told.detail != ours.detail and told.message == "m"
        assert told.url.startswith("https://") or rule.name == "InvalidBaseImagePlatform"
    plain = BuildWarning(message="no rule", spans=(Span("D", 1, 1),))
    assert in_protocol_words(plain) == plain
