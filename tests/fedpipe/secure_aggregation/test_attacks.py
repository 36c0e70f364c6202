"""A coordinator or sites that break the rules: who is refused, by whom, and what they learn."""

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedpipe.secure_aggregation import agreement, keys, shamir
from fedpipe.secure_aggregation.coordinator import Phase
from fedpipe.secure_aggregation.coordinator_messages import Agreements, AllKeys, Begin, Delivery, Survivors
from fedpipe.secure_aggregation.masks import add_masks
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.site_messages import Agreement, Letters, Masked, Revealed, RoundKeys
from tests.fedpipe.secure_aggregation.federation import MODEL, Federation, identity, setting_of

OTHER_MODEL = hashlib.sha256(b"another model").digest()


@pytest.fixture
def five(tmp_path: Path) -> Federation:
    """Five sites of which one may collude, in round 1."""
    federation = Federation(tmp_path, setting_of(range(1, 6), colluding=1, bits=20))
    federation.begin()
    return federation


def signed_as(site: int, keys_of: RoundKeys) -> RoundKeys:
    return keys_of.signed(identity(site).sign(keys_of.context + keys_of.fields))


# A coordinator that replaces what sites have signed.


@pytest.mark.parametrize("field", ["mask_key", "letter_key", "commitment"])
@pytest.mark.parametrize("signer", [None, 3, 9], ids=["not signed", "signed by another site", "signed by a stranger"])
def test_substituted_keys_are_refused(five: Federation, field: str, signer: int | None) -> None:
    five.phase()
    message = AllKeys.decode(five.coordinator.requests()[1])
    forged = replace(message.keys[1], **{field: keys.public(b"c" * 32)})
    forged = signed_as(signer, forged) if signer else forged
    with pytest.raises(Refused, match="site 2 did not sign this") as refused:
        five.sites[1].share(replace(message, keys=(message.keys[0], forged, *message.keys[2:])).encode())
    assert refused.value.site == 2


@pytest.mark.parametrize("change", ["missing", "of another attempt"])
def test_a_site_wants_its_own_keys_among_all(five: Federation, change: str) -> None:
    five.phase()
    message = AllKeys.decode(five.coordinator.requests()[1])
    mine = () if change == "missing" else (signed_as(1, replace(message.keys[0], commitment=bytes(32))),)
    with pytest.raises(Refused, match="the keys of this site are missing, or are others than it has sent"):
        five.sites[1].share(replace(message, keys=(*mine, *message.keys[1:])).encode())


def test_a_model_that_the_site_has_not_received_is_refused(five: Federation) -> None:
    request = five.coordinator.requests()[1]
    with pytest.raises(Refused, match="another model than it has sent to this site"):
        five.sites[1].keys(request, OTHER_MODEL)


def test_another_model_for_each_site_gives_no_sum(five: Federation) -> None:
    """Each site gets a model that fits its message; their keys do not fit each other."""
    others = Begin.of(five.setting, 1, 0, OTHER_MODEL)
    came = [RoundKeys.decode(five.sites[5].keys(others.encode(), OTHER_MODEL))]
    request = five.coordinator.begin.encode()
    came = [RoundKeys.decode(five.sites[site].keys(request, MODEL)) for site in (1, 2, 3, 4)] + came
    with pytest.raises(Refused, match="site 5 did not sign"):
        five.sites[1].share(AllKeys(five.coordinator.begin.context, tuple(came)).encode())


@pytest.mark.parametrize(
    "other",
    [
        {"training": b"another"},
        {"bits": 21},
        {"length": 11},
        {"quantities": 3},
        {"noise": 10, "quantities": 0},
        {"colluding": 0},
        {"sites": range(1, 7)},
    ],
    ids=str,
)
def test_another_setting_than_the_site_has_agreed_to_is_refused(five: Federation, other: dict[str, Any]) -> None:
    setting = setting_of(**({"sites": range(1, 6), "colluding": 1, "bits": 20} | other))
    with pytest.raises(Refused, match="another setting than this site"):
        five.sites[1].keys(Begin.of(setting, 1, 0, MODEL).encode(), MODEL)


# Letters.


def delivered(five: Federation, site: int = 1) -> Delivery:
    five.until(Phase.MASK)
    return Delivery.decode(five.coordinator.requests()[site])


def test_a_letter_that_comes_back_to_its_sender_is_refused(five: Federation) -> None:
    """The key of a letter is of one direction: site 1's letter to 2 is none of 2 to 1, though both share a secret."""
    message = delivered(five)
    sent = next(each for each in five.coordinator._letters[1].letters if each.site == 2)
    reflected = replace(message, letters=(replace(sent, site=2), *message.letters[1:]))
    with pytest.raises(Refused, match="the letter is not from site 2 to site 1") as refused:
        five.sites[1].mask(reflected.encode(), five.summands[1].copy)
    assert refused.value.site == 2


@pytest.mark.parametrize("change", ["sender", "receiver", "digests", "sealed"])
def test_a_letter_of_others_or_a_changed_one_is_refused(five: Federation, change: str) -> None:
    message = delivered(five)
    first, second = message.letters[:2]
    to_another = Delivery.decode(five.coordinator.requests()[3]).letters[1]
    changed = {
        "sender": replace(second, site=first.site),
        "receiver": replace(to_another, site=first.site),
        "digests": replace(first, digests=(first.digests[1], first.digests[0])),
        "sealed": replace(first, sealed=bytes([first.sealed[0] ^ 1]) + first.sealed[1:]),
    }[change]
    with pytest.raises(Refused, match="the letter is not from site 2 to site 1"):
        five.sites[1].mask(replace(message, letters=(changed, *message.letters[1:])).encode(), five.summands[1].copy)


def test_letters_for_another_site_of_strangers_or_too_few_are_refused(five: Federation) -> None:
    message = delivered(five)
    stranger = replace(message.letters[-1], site=9)
    for wrong, error in (
        (Delivery.decode(five.coordinator.requests()[2]), "these letters are for site 2"),
        (replace(message, letters=(*message.letters, stranger)), "a letter of site 9 came, and no keys"),
        (replace(message, letters=message.letters[:2]), "3 members are in the round, and a sum has at least 4"),
    ):
        with pytest.raises(Refused, match=error):
            five.sites[1].mask(wrong.encode(), five.summands[1].copy)


def test_a_site_whose_shares_are_not_those_of_its_digests_is_named(five: Federation) -> None:
    """A malicious site 2: the letter is its own, the digests in it are of other shares."""
    five.phase()
    dealer = five.sites[2]
    answer = Letters.decode(dealer.share(five.coordinator.requests()[2]))
    digests = (bytes(16), bytes(16))
    assert dealer._attempt is not None
    sealed = dealer._attempt.box(1).seal(bytes(66), digests[0] + digests[1])
    lie = replace(answer, letters=(replace(answer.letters[0], digests=digests, sealed=sealed), *answer.letters[1:]))
    for site in (1, 3, 4, 5):
        five.coordinator.receive(site, five.answer(site, five.coordinator.requests()[site]))
    five.coordinator.receive(2, lie.encode())
    five.coordinator.close()
    with pytest.raises(Refused, match="site 2 sent shares that are not those of its digests") as refused:
        five.answer(1, five.coordinator.requests()[1])
    assert refused.value.site == 2


def test_letters_are_of_the_keys_that_were_taken_last(five: Federation) -> None:
    """Other keys of a malicious site, in a message that was refused, leave nothing behind."""
    five.phase()
    message = AllKeys.decode(five.coordinator.requests()[1])
    other = signed_as(2, replace(message.keys[1], letter_key=keys.public(b"o" * 32)))
    attempt = five.sites[1]._attempt
    assert attempt is not None
    for second in (other, message.keys[1]):
        attempt.take_keys(replace(message, keys=(message.keys[0], second, *message.keys[2:])))
        assert attempt.box(2).other_key == second.letter_key


@pytest.mark.parametrize("field", ["mask_key", "letter_key"])
def test_a_key_of_small_order_is_refused_and_its_site_named(five: Federation, field: str) -> None:
    """Malicious site 2 signs a key with which its secrets with others would be zero."""
    five.phase()
    message = AllKeys.decode(five.coordinator.requests()[1])
    weak = signed_as(2, replace(message.keys[1], **{field: bytes(32)}))
    attempt = five.sites[1]._attempt
    assert attempt is not None
    attempt.take_keys(replace(message, keys=(message.keys[0], weak, *message.keys[2:])))
    attempt.held = {1: (b"", b""), 2: (b"", b"")}
    with pytest.raises(Refused, match="the key of site 2 is no usable X25519 public key") as refused:
        attempt.masks() if field == "mask_key" else attempt.box(2)
    assert refused.value.site == 2


# Survivors.


def test_split_survivors_are_revealed_by_nobody(five: Federation) -> None:
    """Two sets that differ by one site would show its vector."""
    five.until(Phase.AGREE)
    context = five.coordinator.begin.context
    sets = {1: (1, 2, 3, 4), 2: (1, 2, 3, 4), 3: (1, 2, 3, 4, 5), 4: (1, 2, 3, 4, 5), 5: (1, 2, 3, 4, 5)}
    signed = {site: five.sites[site].agree(Survivors(context, chosen).encode()) for site, chosen in sets.items()}
    agreements = {site: Agreement.decode(each) for site, each in signed.items()}
    for together in ((1, 2), (3, 4, 5)):
        some = Agreements(context, tuple(agreements[site] for site in together)).encode()
        with pytest.raises(Refused, match="sites signed the survivors, and 4 are needed"):
            five.sites[together[0]].reveal(some)
    everything = Agreements(context, tuple(agreements[site] for site in (1, 2, 3, 4))).encode()
    for site, other in ((1, 3), (3, 1)):
        with pytest.raises(Refused, match=f"site {other} did not sign"):
            five.sites[site].reveal(everything)


def test_split_members_are_revealed_by_nobody(five: Federation) -> None:
    """One site is told that site 5 is no member: its signature is of another text."""
    five.until(Phase.MASK)
    requests = five.coordinator.requests()
    without = replace(Delivery.decode(requests[1]), letters=Delivery.decode(requests[1]).letters[:-1])
    five.sites[1].mask(without.encode(), five.summands[1].copy)
    for site in (2, 3, 4):
        five.answer(site, requests[site])
    survivors = Survivors(five.coordinator.begin.context, (1, 2, 3, 4))
    signed = tuple(Agreement.decode(five.sites[site].agree(survivors.encode())) for site in (1, 2, 3, 4))
    with pytest.raises(Refused, match="site 1 did not sign"):
        five.sites[2].reveal(Agreements(survivors.context, signed).encode())


@pytest.mark.parametrize(
    ("survivors", "error"),
    [
        ((1, 2, 3), "3 vectors came, and a sum has at least 4"),
        ((2, 3, 4, 5), "no members of the round, or without this site"),
        ((1, 2, 3, 4, 9), "no members of the round, or without this site"),
    ],
)
def test_survivors_too_few_strangers_or_without_the_site_are_refused(
    five: Federation, survivors: tuple[int, ...], error: str
) -> None:
    five.until(Phase.AGREE)
    with pytest.raises(Refused, match=error):
        five.sites[1].agree(Survivors(five.coordinator.begin.context, survivors).encode())


@pytest.mark.parametrize("change", ["of a stranger", "of a dropout", "twice"])
def test_signatures_that_do_not_count(five: Federation, change: str) -> None:
    five.until(Phase.MASK)
    five.phase(without=[5])
    five.phase()
    message = Agreements.decode(five.coordinator.requests()[1])
    text = five.sites[1]._attempt.agreed  # type: ignore[union-attr]
    context = message.context
    forged = {
        "of a stranger": Agreement(context, 4, identity(9).sign(text)),
        "of a dropout": Agreement(context, 5, identity(5).sign(text)),
        "twice": Agreement(context, 3, message.agreements[2].signature),
    }[change]
    request = replace(message, agreements=(*message.agreements[:3], forged)).encode()
    error = {"of a stranger": "site 4 did not sign", "of a dropout": "site 5 is no survivor", "twice": "there twice"}
    with pytest.raises(Refused, match=error[change]):
        five.sites[1].reveal(request)


def test_a_late_vector_is_not_summed_and_stays_hidden(five: Federation) -> None:
    """The others reveal the key of site 4, so that its masks with them are known; its own mask is not."""
    five.until(Phase.MASK)
    requests = five.coordinator.requests()
    five.phase(without=[4])
    late = five.answer(4, requests[4], Phase.MASK)
    with pytest.raises(Refused, match="an answer of site 4 is not awaited"):
        five.coordinator.receive(4, late)
    five.phase()
    revealed = {site: Revealed.decode(answer) for site, answer in five.phase().items()}
    assert five.is_sum_of({1, 2, 3, 5})
    givers = sorted(revealed)[: five.setting.roster.threshold]
    shares = {giver: revealed[giver].shares[3] for giver in givers}
    secret = shamir.combine(shamir.weights_at_zero(givers), shares)
    round_keys, context = five.coordinator._keys, five.coordinator.begin.context
    assert keys.public(secret) == round_keys[4].mask_key
    vector = Masked.decode(late).vector.copy()
    private = keys.private_key(secret)
    pairs = [keys.pair_mask(private, round_keys[i].mask_key, context, 4, i) for i in (1, 2, 3, 5)]
    add_masks(vector, [replace(mask, subtract=not mask.subtract) for mask in pairs])
    vector.reduce(20)
    assert (vector.weights != five.summands[4].weights).sum() >= 9
    with pytest.raises(Refused, match="step reveal is out of turn"):
        five.sites[4].reveal(Agreements(context, ()).encode())


# Steps, rounds, trainings.


def test_a_step_is_answered_once_or_with_the_same_bytes(five: Federation) -> None:
    """Another message to a step that was answered is refused, whatever it is."""
    while five.coordinator.phase != Phase.DONE:
        phase, requests = five.coordinator.phase, five.coordinator.requests()
        answers = five.phase()
        assert five.answer(1, requests[1], phase) == answers[1]
        other = requests[1][:-1] + bytes([requests[1][-1] ^ 1])
        with pytest.raises(Refused):
            five.answer(1, other, phase)
        if phase != Phase.KEYS:
            error = "out of turn" if phase == Phase.REVEAL else "answered before, to another message"
            with pytest.raises(Refused, match=error):
                five.answer(1, other, phase)
    assert five.is_sum_of(five.setting.roster.sites)


def test_steps_out_of_turn_are_refused(five: Federation) -> None:
    with pytest.raises(Refused, match="step share is out of turn"):
        five.sites[1].share(b"")
    five.phase()
    for early in (Phase.MASK, Phase.AGREE, Phase.REVEAL):
        with pytest.raises(Refused, match=f"step {early.name.lower()} is out of turn"):
            five.answer(1, b"", early)


def test_messages_of_a_former_round_are_refused(five: Federation) -> None:
    """By sites and by the coordinator, with the old context and with the new one."""
    old: dict[Phase, tuple[bytes, bytes]] = {}
    while (phase := five.coordinator.phase) != Phase.DONE:
        request = five.coordinator.requests()[1]
        old[phase] = (request, five.phase()[1])
    five.begin(2, model=OTHER_MODEL)
    context = five.coordinator.begin.context
    while (phase := five.coordinator.phase) != Phase.DONE:
        request, answer = old[phase]
        if phase != Phase.KEYS:
            with pytest.raises(Refused, match="of another attempt, round, model or setting"):
                five.answer(1, request)
        with pytest.raises(Refused, match="site 1 is of another attempt, round, model or setting"):
            five.coordinator.receive(1, answer)
        renewed = request[:6] + context + request[38:]
        if phase in (Phase.SHARE, Phase.MASK, Phase.REVEAL):
            with pytest.raises(Refused, match=r"did not sign|the letter is not from"):
                five.answer(1, renewed)
        if phase in (Phase.KEYS, Phase.AGREE, Phase.REVEAL):
            with pytest.raises(Refused, match=r"did not sign|revealed a wrong share"):
                five.coordinator.receive(1, answer[:6] + context + answer[38:])
        five.phase()
    assert five.is_sum_of(five.setting.roster.sites)


def trained(folder: Path, training: bytes, sites: tuple[int, ...], model: bytes = MODEL, noise: int = 0) -> Federation:
    """A round of a training over sites that have taken part in others before."""
    federation = Federation(
        folder, setting_of(sites, training=training, noise=noise, quantities=0 if noise else 2), sites
    )
    federation.begin(model=model)
    try:
        federation.run()
    finally:
        federation.close()
    return federation


def test_a_model_that_was_answered_in_another_set_of_sites_is_refused(tmp_path: Path) -> None:
    """Two trainings with one seed, with and without site 4, differ by its update: sites 1 to 3 remember."""
    first = trained(tmp_path, b"one", (1, 2, 3, 4))
    assert first.is_sum_of({1, 2, 3, 4})
    for other in ((1, 2, 3), (1, 2, 3, 5), (1, 2, 3, 4, 5)):
        with pytest.raises(Refused, match="this model was answered in another set of sites"):
            trained(tmp_path, b"two %d" % len(other), other)
    assert trained(tmp_path, b"three", (4, 3, 2, 1)).is_sum_of({1, 2, 3, 4})  # the same set tells nothing new
    assert trained(tmp_path, b"four", (1, 2, 3), OTHER_MODEL).is_sum_of({1, 2, 3})  # another seed, another model


def test_an_unchanged_model_of_a_former_round_is_answered_in_the_same_set_only(five: Federation) -> None:
    """A round that changes nothing, and then a dropout, would show the dropout."""
    five.run()
    five.begin(2)
    five.run()
    assert five.is_sum_of(five.setting.roster.sites)
    five.begin(3)
    with pytest.raises(Refused, match="this model was answered in another set of sites"):
        five.run({Phase.MASK: [4]})


def test_noise_is_not_averaged_away_by_asking_again(tmp_path: Path) -> None:
    trained(tmp_path, b"one", (1, 2, 3), noise=100)
    with pytest.raises(Refused, match="would average its noise away"):
        trained(tmp_path, b"two", (1, 2, 3), noise=100)


# Sites that break the rules.


def test_who_reveals_a_wrong_share_is_named_and_not_counted(tmp_path: Path) -> None:
    federation = Federation(tmp_path, setting_of(range(1, 6)))
    federation.begin()
    federation.until(Phase.REVEAL)
    requests = federation.coordinator.requests()
    right = Revealed.decode(federation.answer(3, requests[3]))
    for place in range(5):
        share = bytes([right.shares[place][0] ^ 1]) + right.shares[place][1:]
        wrong = replace(right, shares=(*right.shares[:place], share, *right.shares[place + 1 :]))
        error = f"site 3 revealed a wrong share of site {place + 1}'s secret"
        with pytest.raises(Refused, match=error) as refused:
            federation.coordinator.receive(3, wrong.encode())
        assert refused.value.site == 3
    with pytest.raises(Refused, match="4 shares are not those of 5 members"):
        federation.coordinator.receive(3, replace(right, shares=right.shares[:4]).encode())
    federation.phase(without=[3])
    assert federation.is_sum_of({1, 2, 3, 4, 5})


@pytest.mark.parametrize(("lost", "error"), [((), "its seed is not"), ((2,), "its key is not")])
def test_who_shares_another_secret_than_its_own_is_named(tmp_path: Path, lost: tuple[int, ...], error: str) -> None:
    """Site 2 deals shares of other secrets, with right digests of them: only its commitments tell."""
    federation = Federation(tmp_path, setting_of(range(1, 6)))
    federation.begin()
    federation.phase()
    attempt = federation.sites[2]._attempt
    assert attempt is not None
    attempt.secrets = replace(attempt.secrets, mask=b"f" * 32, seed=b"g" * 32)
    federation.phase()
    attempt.secrets = keys.Secrets.decode(federation.sites[2]._journal.steps[1].secret)
    federation.phase(without=lost)
    federation.phase()
    with pytest.raises(Refused, match=f"site 2 shared another secret than its own: {error}") as refused:
        federation.phase()
    assert refused.value.site == 2 and federation.coordinator.phase == Phase.REVEAL


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase != Phase.DONE])
def test_answers_too_large_of_others_malformed_or_changed_are_refused(five: Federation, phase: Phase) -> None:
    five.until(phase)
    coordinator, requests = five.coordinator, five.coordinator.requests()
    answers = {site: five.answer(site, requests[site]) for site in (1, 2)}
    most = coordinator.largest_answer()
    assert len(answers[1]) <= most
    for site, wrong, error in (
        (1, bytes(most + 1), f"site 1 sent {most + 1} bytes, and at most {most} are possible"),
        (1, b"", "the answer of site 1 is not acceptable"),
        (1, answers[2], "the answer of site 1 names site 2"),
        (6, answers[1], "an answer of site 6 is not awaited"),
    ):
        with pytest.raises(Refused, match=error) as refused:
            coordinator.receive(site, wrong)
        assert refused.value.site == site
    assert coordinator.receive(1, answers[1]) and not coordinator.receive(1, answers[1])
    assert coordinator.waiting == {2, 3, 4, 5}
    if phase not in (Phase.MASK, Phase.REVEAL):
        changed: Callable[[bytes], bytes] = lambda data: data[:-1] + bytes([data[-1] ^ 1])  # noqa: E731
        with pytest.raises(Refused, match="another answer before"):
            coordinator.receive(1, changed(answers[1]))
    with pytest.raises(Refused, match=r"1 sites answered in phase .*, and 4 are needed"):
        coordinator.close()
    with pytest.raises(Refused, match="no sum yet"):
        coordinator.result()


def test_a_site_that_does_not_write_to_all_others_is_no_member(five: Federation) -> None:
    five.phase()
    answer = Letters.decode(five.answer(1, five.coordinator.requests()[1]))
    with pytest.raises(Refused, match="site 1 did not send a letter to each other site"):
        five.coordinator.receive(1, replace(answer, letters=answer.letters[:-1]).encode())


def test_a_vector_of_another_size_is_refused_and_not_added(five: Federation) -> None:
    five.until(Phase.MASK)
    right = Masked.decode(five.answer(1, five.coordinator.requests()[1]))
    for weights in (right.vector.weights[:9], right.vector.weights | np.uint32(1 << 20)):
        with pytest.raises(Refused, match=r"9,|more than 20 bits") as refused:
            wrong = replace(right, vector=replace(right.vector, weights=weights))
            five.coordinator.receive(1, wrong.encode())
        assert refused.value.site == 1
    five.run()
    assert five.is_sum_of(five.setting.roster.sites)


def test_fewer_shares_than_the_threshold_take_no_mask_off(five: Federation) -> None:
    five.until(Phase.REVEAL)
    requests = five.coordinator.requests()
    revealed = {site: Revealed.decode(five.answer(site, requests[site])) for site in (1, 2, 3)}
    total = five.summands[1].copy()
    with pytest.raises(Refused, match="3 sites revealed shares, and 4 are needed"):
        five.coordinator._known_round().unmask(total, revealed)
    assert np.array_equal(total.weights, five.summands[1].weights)


def test_a_stranger_cannot_be_a_site(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="this site's identity is not in the roster"):
        Federation(tmp_path, setting_of((1, 2, 3)), numbers=(1, 2, 9))


def test_the_digest_of_a_share_does_not_depend_on_its_holder() -> None:
    assert agreement.share_digests(b"a", b"b") == (agreement.share_digest(b"a"), agreement.share_digest(b"b"))
    assert agreement.share_digest(b"a") != agreement.share_digest(b"b")
