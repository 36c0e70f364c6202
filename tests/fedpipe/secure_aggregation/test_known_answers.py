"""The primitives as they are used, against the vectors of their standards; and this protocol's own, against change."""

import hashlib
import hmac
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedpipe.secure_aggregation import keys
from fedpipe.secure_aggregation.coordinator import Phase
from fedpipe.secure_aggregation.masks import Mask, add_masks
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.roster import Roster
from fedpipe.secure_aggregation.vector import Vector
from tests.fedpipe.secure_aggregation.federation import Federation, public, setting_of

ALICE = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
PINNED_KEYS = ["106f02131b7ac13c", "b1e885eca42bcad8", "88c33fc2de5d84d4", "b7ce15eead072754"]
PINNED_ROUND = ["de107c298c6ddcd6", "254e6cf364260e11", "38a53d1013cc4b73", "c7baf526f8f816c3", "abde9b6f5cfa5770"]


def hkdf(secret: bytes, salt: bytes, info: list[bytes], size: int) -> bytes:
    """RFC 5869 by the standard library's HMAC; ``info`` is each part after its length in 8 bytes."""
    text = b"".join(len(part).to_bytes(8, "little") + part for part in info)
    key, block, out = hmac.digest(salt, secret, "sha256"), b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(key, block + text + bytes([number]), "sha256")
        out += block
    return out[:size]


def test_hkdf_gives_the_vector_of_rfc_5869() -> None:
    """Test case 1: SHA-256, 42 bytes."""
    secret, salt, info = bytes([0x0B] * 22), bytes(range(13)), bytes(range(0xF0, 0xFA))
    expected = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert keys.derive(secret, salt, info, 42).hex() == expected


def test_x25519_gives_the_vector_of_rfc_7748() -> None:
    """Section 6.1."""
    assert keys.public(ALICE).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert keys.public(BOB).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    shared = keys.exchange(keys.private_key(ALICE), keys.public(BOB), 2)
    assert shared.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_ed25519_gives_the_vector_of_rfc_8032() -> None:
    """Section 7.1, test 1: the roster accepts its signature of the empty message, and no other one."""
    signer = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    )
    assert signer.public_key().public_bytes_raw().hex()[:16] == "d75a980182b10ab7"
    signature = bytes.fromhex(
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe2"
        "4655141438e7a100b"
    )
    roster = Roster((signer.public_key().public_bytes_raw(), public(2), public(3)))
    roster.verify(1, signature, b"")
    for site, content in ((1, b"x"), (2, b"")):
        with pytest.raises(Refused, match=f"site {site} did not sign"):
            roster.verify(site, signature, content)


def test_a_mask_is_the_keystream_of_aes_256_in_counter_mode() -> None:
    """AES-256 of 16 zeros with a key of zeros (NIST's AESAVS); the second block is that of the counter 1."""
    vector = Vector.zeros(32, 8, 1)
    add_masks(vector, [Mask(bytes(64))])
    assert vector.weights.tobytes().hex() == "dc95c078a2408989ad48a21492842087530f8afbc74536b9a963b4f1c4cb738b"
    assert vector.quantities.tobytes().hex() == "dc95c078a2408989"


@pytest.mark.parametrize("length", [1, 16_383, 16_384, 16_385, 40_000])
def test_masks_of_any_length_are_one_keystream_and_cancel(length: int) -> None:
    """Blocks of 64 KiB are joined without a seam; for uint64 too."""
    for bits in (32, 62):
        short, long = Vector.zeros(bits, length, 0), Vector.zeros(bits, 50_000, 0)
        for vector in (short, long):
            add_masks(vector, [Mask(b"k" * 64), Mask(b"l" * 64, subtract=True)])
        assert np.array_equal(short.weights, long.weights[:length]) and long.weights.any()
        add_masks(short, [Mask(b"l" * 64), Mask(b"k" * 64, subtract=True)])
        assert not short.weights.any()


def test_two_sites_derive_one_mask_with_opposite_signs() -> None:
    first = keys.pair_mask(keys.private_key(ALICE), keys.public(BOB), b"context", 3, 7)
    other = keys.pair_mask(keys.private_key(BOB), keys.public(ALICE), b"context", 7, 3)
    assert first.key == other.key and (first.subtract, other.subtract) == (False, True)


def test_the_derived_keys_are_those_of_version_1() -> None:
    """With the keys of RFC 7748: once more by the standard library, and pinned."""
    pair = keys.pair_mask(keys.private_key(ALICE), keys.public(BOB), b"context", 3, 7).key
    own = keys.own_mask(ALICE, b"context", 3).key
    box = keys.LetterBox(3, keys.public(ALICE), 7, keys.public(BOB), bytes(32), b"context")
    context = setting_of((1, 2, 3)).context(1, 0, bytes(32))
    shared = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert pair == hkdf(shared, b"context", [b"pair", b"3", b"7"], 64)
    assert own == hkdf(ALICE, b"context", [b"own", b"3"], 64)
    letter = hkdf(bytes(32), b"context", [b"letter", b"3", b"7", keys.public(ALICE), keys.public(BOB)], 32)
    assert box.seal(b"text", b"beside") == AESGCM(letter).encrypt(bytes(12), b"text", b"beside")
    made = [hashlib.sha256(each).hexdigest()[:16] for each in (pair, own, box.seal(b"text", b"beside"), context)]
    assert made == PINNED_KEYS


def test_a_round_has_the_bytes_of_version_1(tmp_path: Path) -> None:
    """Pinned as first made: identities SHA-256 of "identity 1", ..., secrets SHAKE-256 of "site 1 0", ..."""
    federation = Federation(tmp_path, setting_of((1, 2, 3, 4), bits=20), fixed=True)
    federation.begin()
    digests = []
    for phase in Phase:
        if phase != Phase.DONE:
            answers = federation.phase(without=[3] if phase == Phase.MASK else ())
            digests.append(hashlib.sha256(b"".join(answers.values())).hexdigest()[:16])
    assert digests == PINNED_ROUND
    assert federation.is_sum_of({1, 2, 4})


def test_the_hkdf_context_binds_everything_that_sites_agree_on() -> None:
    base = {
        "sites": (1, 2, 3, 4),
        "colluding": 0,
        "training": b"t",
        "bits": 20,
        "length": 9,
        "quantities": 2,
        "noise": 0,
    }
    changes = [{}, {"sites": (1, 2, 3, 5)}, {"sites": (2, 1, 3, 4)}, {"colluding": 1}, {"training": b"u"}]
    changes += [{"bits": 21}, {"length": 10}, {"quantities": 0}, {"quantities": 0, "noise": 6}]
    contexts = {setting_of(**(base | change)).context(1, 0, bytes(32)) for change in changes}  # type: ignore[arg-type]
    setting = setting_of(**base)  # type: ignore[arg-type]
    contexts |= {setting.context(2, 0, bytes(32)), setting.context(1, 1, bytes(32)), setting.context(1, 0, b"m" * 32)}
    assert len(contexts) == len(changes) + 3
