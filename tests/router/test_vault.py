"""What the vault seals, who can open it, and which keys it refuses to start with."""

from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from protos.errors import Conflict, InputInvalid, InvalidRequest
from router.vault import KEY_FILE, SealBroken, Vault, vault_of

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
SECRET = "sk-proj-0123456789"


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_sealed_opens_to_the_same_text_and_does_not_show_it(text: str) -> None:
    vault = Vault([OLD])
    sealed = vault.seal(text)
    assert vault.open(sealed) == text
    assert sealed.isascii()
    assert len(text) < 4 or text not in sealed


def test_the_same_text_is_sealed_differently_each_time() -> None:
    vault = Vault([OLD])
    assert vault.seal(SECRET) != vault.seal(SECRET)


def test_after_a_new_key_the_old_seals_open_and_are_renewed_by_reseal() -> None:
    sealed = Vault([OLD]).seal(SECRET)
    rotated = Vault([NEW, OLD])
    assert rotated.open(sealed) == SECRET
    assert Vault([NEW]).open(rotated.reseal(sealed)) == SECRET


def test_without_the_key_nothing_opens_and_the_message_has_neither_key_nor_secret() -> None:
    sealed = Vault([OLD]).seal(SECRET)
    with pytest.raises(SealBroken, match="FABRIC_SECRET_KEY") as opened:
        Vault([NEW]).open(sealed)
    with pytest.raises(SealBroken):
        Vault([NEW]).reseal("not sealed at all")
    assert sealed not in str(opened.value)
    assert NEW not in str(opened.value)


@pytest.mark.parametrize("key", ["", "short", "ä" * 44, "!" * 44])
def test_a_bad_key_stops_the_start_and_is_not_told(key: str) -> None:
    with pytest.raises(InputInvalid, match=r"^FABRIC_SECRET_KEY: key 2 .*openssl rand") as refused:
        Vault([OLD, key])
    assert key == "" or key not in refused.value.message


def test_without_a_key_one_is_made_that_only_its_owner_can_read(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    sealed = vault_of(folder, ()).seal(SECRET)
    assert (folder / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert vault_of(folder, ()).open(sealed) == SECRET


def test_a_key_in_the_settings_leaves_the_file_s_key_good_for_what_it_sealed(tmp_path: Path) -> None:
    sealed = vault_of(tmp_path, ()).seal(SECRET)
    vault = vault_of(tmp_path, (NEW,))
    assert vault.open(sealed) == SECRET
    assert Vault([NEW]).open(vault.seal(SECRET)) == SECRET


def test_a_key_in_the_settings_needs_no_file(tmp_path: Path) -> None:
    vault_of(tmp_path, (NEW,))
    assert not (tmp_path / KEY_FILE).exists()


def test_a_key_file_that_others_can_read_or_that_is_empty_stops_the_start(tmp_path: Path) -> None:
    vault_of(tmp_path, ())
    path = tmp_path / KEY_FILE
    path.chmod(0o640)
    with pytest.raises(Conflict, match="chmod 600"):
        vault_of(tmp_path, ())
    path.chmod(0o600)
    path.write_text("\n")
    with pytest.raises(Conflict, match="has no key"):
        vault_of(tmp_path, ())


def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="name another folder"):
        vault_of(tmp_path / "file", ())
