"""Variables, values and URLs that are taken for secrets, and how they are hidden."""

from __future__ import annotations

import hashlib

import pytest

from pybuild.model.secrets import (
    is_secret_name,
    redacted,
    redacted_variables,
    secret_values,
    without,
    without_secrets,
)


def hidden(value: str) -> str:
    return f"[redacted {hashlib.sha256(value.encode()).hexdigest()[:3]}]"


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [
        ("KEY", True), ("API_KEY", True), ("apikey", True), ("MY_TOKEN_2", True), ("AUTH", True),
        ("CREDENTIALS", True), ("CREDENTIAL_X", True), ("DB_PASSWORD", True), ("pword", True),
        ("PASSWD", True), ("CLIENT_SECRET", True),
        ("KEYBOARD", False), ("MONKEY", False), ("AUTHOR", False), ("TOKENS", False), ("", False),
        ("PUBLIC_KEY", False), ("KEY_FILE", False), ("TOKEN_VERSION", False), ("PUBLICKEY_KEY", True),
    ],
)  # fmt: skip
def test_names_of_secrets(name: str, is_secret: bool) -> None:
    assert is_secret_name(name) is is_secret


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_" + "a" * 20, "ghs_" + "a" * 36, "github_pat_" + "a" * 20, "glpat-" + "a" * 16,
        "xoxb-" + "a" * 10, "AKIA" + "A" * 16, "ASIA" + "0" * 16, "sk-" + "a" * 20,
        "npm_" + "a" * 30, "pypi-" + "a" * 30, "AIza" + "a" * 30,
        "eyJabcdefgh.eyJabcdefgh.sig", "eyJabcdefgh.eyJabcdefgh.",
        "-----BEGIN RSA PRIVATE KEY-----\nx\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nwithout end",
    ],
)  # fmt: skip
def test_values_that_look_like_secrets(secret: str) -> None:
    assert redacted(secret) == hidden(secret)
    assert redacted(f"a={secret}") == f"a={hidden(secret)}"


@pytest.mark.parametrize(
    "text",
    ["ghp_" + "a" * 19, "AKIA" + "A" * 15, "sk-" + "a" * 19, "eyJabc.eyJabcdefgh.x", "xghp_" + "a" * 20,
     "-----BEGIN PUBLIC KEY-----", "http://h/a:b@c", "plain"],
)  # fmt: skip
def test_values_that_do_not(text: str) -> None:
    assert redacted(text) == text


def test_the_user_of_a_url_is_hidden_where_a_password_is_with_it() -> None:
    assert redacted("http://me:pw@h/x") == f"http://{hidden('me:pw')}@h/x"
    assert redacted("http://me@h/x") == "http://me@h/x"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pw@h/x", "https://xxxxx:xxxxx@h/x"),
        ("https://token@h/x", "https://xxxxx@h/x"),
        ("ssh://git@h/x", "ssh://git@h/x"),
        ("SSH://git@h/x", "SSH://git@h/x"),
        ("ssh://git:pw@h/x", "ssh://xxxxx:xxxxx@h/x"),
        ("https://h/x@y", "https://h/x@y"),
        ("git@h:x", "git@h:x"),
        ("https://a@h/?u=https://b@h", "https://xxxxx@h/?u=https://b@h"),
    ],
)
def test_urls(url: str, shown: str) -> None:
    assert without_secrets(url) == shown


def test_values_of_secret_variables_are_the_longest_first_and_no_short_ones() -> None:
    variables = {
        "A_KEY": "12345",
        "B_KEY": "123456",
        "C_KEY": "b234567",
        "D_KEY": "a234567",
        "E": "x" * 9,
    }
    assert secret_values(variables) == ("a234567", "b234567", "123456")


def test_a_json_value_is_searched_to_its_leaves() -> None:
    value = {"a": ["is hunter22", {"b": "hunter22!"}], "hunter22": 1, "n": None, "t": True}
    assert without(value, ["hunter22"]) == {
        "a": [f"is {hidden('hunter22')}", {"b": f"{hidden('hunter22')}!"}],
        "hunter22": 1,
        "n": None,
        "t": True,
    }
    token = "ghp_" + "a" * 20
    assert without([token], []) == [hidden(token)]


def test_assignments_are_shown_without_each_others_secrets() -> None:
    shown = redacted_variables(
        [
            "A_KEY=hunter22",
            "URL=x/hunter22/y",
            "EMPTY_KEY=",
            "ALONE",
            "S_KEY=ab",
            "T=ab",
            "U=http://a:b@h",
        ]
    )
    assert shown == [
        f"A_KEY={hidden('hunter22')}",
        f"URL=x/{hidden('hunter22')}/y",
        "EMPTY_KEY=",
        "ALONE",
        f"S_KEY={hidden('ab')}",
        "T=ab",
        f"U=http://{hidden('a:b')}@h",
    ]


def test_a_value_that_is_part_of_another_does_not_break_it() -> None:
    shown = redacted_variables(["A_KEY=123456", "B_KEY=1234567", "C=1234567"])
    assert shown[2] == f"C={hidden('1234567')}"


def test_what_is_no_text_is_hidden_too() -> None:
    assert redacted_variables(["A_KEY=\udcff" + "x" * 9])[0].startswith("A_KEY=[redacted ")
