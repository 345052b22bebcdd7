"""Tokens in cards, and where stamped files go."""

import hashlib
import os
import stat
from pathlib import Path

import pytest
from timestamp_server import PLAN, golden_card, put_card, reply_to

from laminator.appraise.card_time import MAX_TOKENS
from laminator.card import MAX_ENDORSEMENTS, ConceptualMessage, parse_card, timestamp_message
from laminator.digest import Digest
from laminator.endorsements import TIMESTAMP_MEDIA_TYPE, endorsements_of
from laminator.errors import UsageError
from laminator.timestamp.query import make_query
from laminator.timestamp.subject import (
    Subject,
    card_subject,
    check_place,
    plan_subject,
    with_token,
    write_stamped,
)


def _token() -> bytes:
    return reply_to(make_query(timestamp_message(golden_card()), "sha256"))


def _subject(path: Path) -> Subject:
    return card_subject(path, parse_card(path.read_bytes()))


def test_a_token_changes_neither_the_id_nor_what_a_token_is_over() -> None:
    card, token = golden_card(), _token()
    stamped = with_token(card, token)
    assert (stamped.id, timestamp_message(stamped)) == (card.id, timestamp_message(card))
    assert endorsements_of(stamped).timestamps == (token,)
    second = with_token(stamped, _token())
    assert endorsements_of(second).timestamps[0] == token
    assert len(second.endorsements) == 2


def test_the_same_token_goes_in_once() -> None:
    token = _token()
    with pytest.raises(UsageError) as refused:
        with_token(with_token(golden_card(), token), token)
    assert refused.value.code == "timestamp.present"


def test_other_endorsements_stay_and_fill_a_card() -> None:
    other = ConceptualMessage(TIMESTAMP_MEDIA_TYPE, b"foreign")
    card = golden_card()._replace(endorsements=(other,) * (MAX_ENDORSEMENTS - 1))
    stamped = with_token(card, _token())
    assert stamped.endorsements[:-1] == card.endorsements
    with pytest.raises(UsageError) as refused:
        with_token(stamped, _token())
    assert refused.value.code == "timestamp.full"


def test_a_time_stamp_that_no_verifier_would_look_at_is_refused() -> None:
    others = [ConceptualMessage(TIMESTAMP_MEDIA_TYPE, bytes([n])) for n in range(MAX_TOKENS)]
    card = golden_card()._replace(endorsements=tuple(others[1:]))
    assert with_token(card, _token()).endorsements[:-1] == card.endorsements
    with pytest.raises(UsageError, match="first 8") as refused:
        with_token(card._replace(endorsements=tuple(others)), _token())
    assert refused.value.code == "timestamp.full"


def test_what_is_stamped_has_the_name_that_claims_use(tmp_path: Path) -> None:
    card = _subject(put_card(tmp_path))
    assert (card.kind, card.id) == ("card", Digest("sha-256", golden_card().id))
    plan = plan_subject(tmp_path / "plan.toml", PLAN.encode())
    assert (plan.kind, plan.id.value) == ("plan", hashlib.sha256(PLAN.encode()).digest())
    assert plan.message == PLAN.encode()


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666])
def test_the_card_is_replaced_and_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = put_card(tmp_path)
    path.chmod(mode)
    subject = _subject(path)
    before = os.umask(0o077)
    try:
        write_stamped(subject, _token(), check_place(subject, None))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert len(parse_card(path.read_bytes()).endorsements) == 1
    assert [each.name for each in tmp_path.iterdir()] == ["x.card"]


def test_a_link_to_a_card_stays_a_link(tmp_path: Path) -> None:
    path = put_card(tmp_path, "real.card")
    link = tmp_path / "link.card"
    link.symlink_to(path)
    subject = _subject(link)
    write_stamped(subject, _token(), check_place(subject, None))
    assert link.is_symlink()
    assert len(parse_card(path.read_bytes()).endorsements) == 1


def test_a_card_goes_elsewhere_on_demand(tmp_path: Path) -> None:
    path = put_card(tmp_path)
    content = path.read_bytes()
    subject = _subject(path)
    place = check_place(subject, tmp_path / "stamped.card")
    write_stamped(subject, _token(), place)
    assert path.read_bytes() == content
    assert len(parse_card(place.read_bytes()).endorsements) == 1


def test_a_plans_response_lies_beside_it(tmp_path: Path) -> None:
    subject = plan_subject(tmp_path / "plan.toml", PLAN.encode())
    place = check_place(subject, None)
    assert place == tmp_path / "plan.tsr"
    write_stamped(subject, b"response", place)
    assert place.read_bytes() == b"response"


@pytest.mark.parametrize("is_link", [False, True])
def test_a_response_replaces_no_file(tmp_path: Path, is_link: bool) -> None:
    place = tmp_path / "plan.tsr"
    if is_link:
        place.symlink_to("nowhere")
    else:
        place.write_bytes(b"an earlier token")
    with pytest.raises(UsageError) as refused:
        check_place(plan_subject(tmp_path / "plan.toml", PLAN.encode()), None)
    assert refused.value.code == "timestamp.exists"


def test_a_stamped_card_replaces_no_other_file(tmp_path: Path) -> None:
    subject = _subject(put_card(tmp_path))
    (tmp_path / "other.card").write_bytes(b"")
    with pytest.raises(UsageError) as refused:
        check_place(subject, tmp_path / "other.card")
    assert refused.value.code == "timestamp.exists"


def test_a_read_only_card_is_left_alone(tmp_path: Path) -> None:
    path = put_card(tmp_path)
    path.chmod(0o444)
    with pytest.raises(UsageError, match="chmod") as refused:
        check_place(_subject(path), path)
    assert refused.value.code == "timestamp.place"
    assert check_place(_subject(path), tmp_path / "new.card") == tmp_path / "new.card"


def test_only_a_plain_file_is_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.card")
    with pytest.raises(UsageError) as refused:
        check_place(card_subject(tmp_path / "x.card", golden_card()), None)
    assert refused.value.code == "timestamp.place"
