"""Secrets at rest: authenticated, and readable while keys are rotated."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies as st

from django_multipay.crypto import decrypt, encrypt, keyed_digest, keyed_digests
from django_multipay.exceptions import MultipayError


@pytest.fixture
def use_keys(settings):
    """Return a function that sets ``ENCRYPTION_KEYS``."""

    def use(*keys: str) -> None:
        settings.MULTIPAY = {"ENCRYPTION_KEYS": list(keys)}

    return use


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text())
def test_every_text_comes_back(text):
    assert decrypt(encrypt(text)) == text


def test_the_ciphertext_shows_neither_text_nor_key(use_keys):
    use_keys("canary-key")
    ciphertext = encrypt("canary-token")
    assert "canary" not in ciphertext
    assert ciphertext.isascii()


def test_the_same_text_looks_different_each_time():
    assert encrypt("token") != encrypt("token")


def test_the_first_key_encrypts_and_all_decrypt(use_keys):
    use_keys("old")
    written_before = encrypt("token")
    use_keys("new", "old")
    written_after = encrypt("token")
    assert decrypt(written_before) == decrypt(written_after) == "token"
    use_keys("new")
    assert decrypt(written_after) == "token"
    with pytest.raises(MultipayError):
        decrypt(written_before)


def test_a_lost_key_is_named_as_the_remedy_without_the_secrets(use_keys):
    use_keys("canary-old")
    ciphertext = encrypt("canary-token")
    use_keys("canary-new")
    with pytest.raises(MultipayError, match="put the retired key back") as caught:
        decrypt(ciphertext)
    assert "canary" not in str(caught.value)
    assert ciphertext not in str(caught.value)


@pytest.mark.parametrize("damage", ["", "x", "é", "gAAAAA==", "not base64!"])
def test_what_was_not_encrypted_here_is_refused(damage):
    with pytest.raises(MultipayError):
        decrypt(damage)


def test_every_changed_character_is_noticed():
    ciphertext = encrypt("token")
    for place, character in enumerate(ciphertext.rstrip("=")[:-1]):
        other = "A" if character != "A" else "B"
        with pytest.raises(MultipayError):
            decrypt(ciphertext[:place] + other + ciphertext[place + 1 :])


@pytest.mark.parametrize("multipay", [{}, {"ENCRYPTION_KEYS": None}], ids=repr)
def test_without_keys_of_its_own_the_secret_key_is_used(settings, multipay):
    settings.MULTIPAY = multipay
    settings.SECRET_KEY = "first"
    written_before = encrypt("token")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "second", ["first"]
    assert decrypt(written_before) == "token"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(MultipayError):
        decrypt(written_before)


def test_keys_are_read_at_each_use_so_settings_may_be_overridden(use_keys, settings):
    use_keys("own")
    ciphertext = encrypt("token")
    settings.SECRET_KEY = "another"
    assert decrypt(ciphertext) == "token"


def test_a_digest_finds_the_same_text_again_while_keys_are_rotated(use_keys):
    use_keys("old")
    digest = keyed_digest("token")
    assert digest == keyed_digest("token") != keyed_digest("token2")
    for keys in (["old", "new"], ["new", "old"]):
        use_keys(*keys)
        assert keyed_digests("token")[keys.index("old")] == digest
        assert keyed_digest("token") == keyed_digests("token")[0]
    use_keys("other")
    assert digest not in keyed_digests("token")
