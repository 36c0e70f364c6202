"""What a killed process forgets, and what it does not."""

import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedpipe.errors import PipelineError
from fedpipe.secure_aggregation import journal
from fedpipe.secure_aggregation.coordinator import Coordinator, Phase
from fedpipe.secure_aggregation.coordinator_messages import Agreements, Begin
from fedpipe.secure_aggregation.journal import SiteJournal
from fedpipe.secure_aggregation.record_file import RecordFile
from fedpipe.secure_aggregation.refusal import Refused
from fedpipe.secure_aggregation.site import Site, Step
from tests.fedpipe.secure_aggregation.federation import MODEL, Federation, identity, setting_of

STEPS = [phase for phase in Phase if phase != Phase.DONE]


@pytest.fixture
def four(tmp_path: Path) -> Federation:
    federation = Federation(tmp_path, setting_of(range(1, 5)))
    federation.begin()
    return federation


def test_all_are_killed_between_any_two_messages(four: Federation) -> None:
    """Each answer is lost and asked for again from a site that has restarted, by a coordinator that has restarted."""
    while (phase := four.coordinator.phase) != Phase.DONE:
        requests = four.coordinator.requests()
        for site in (1, 2, 3, 4):
            lost = four.answer(site, requests[site])
            four.restart(site)
            assert four.answer(site, requests[site]) == lost
        four.restart_coordinator()
        assert (four.coordinator.phase, four.coordinator.requests()) == (phase, requests)
        for site in (1, 2, 3, 4):
            four.restart(site)
            four.coordinator.receive(site, four.answer(site, requests[site]))
        four.coordinator.close()
        four.restart_coordinator()
    assert four.is_sum_of({1, 2, 3, 4})


def test_a_dropout_stays_one_when_the_coordinator_restarts(four: Federation) -> None:
    four.until(Phase.MASK)
    four.phase(without=[2])
    four.restart_coordinator()
    assert four.coordinator.survivors == {1, 3, 4}
    four.phase()
    four.restart_coordinator()
    four.run()
    assert four.is_sum_of({1, 3, 4})
    four.restart_coordinator()
    assert four.is_sum_of({1, 3, 4})


def killed_at(site: Callable[[], Site], step: Callable[[Site], bytes], count: int) -> bytes | None:
    """The answer of a process that is killed with SIGKILL at its n-th sync; None if it was killed."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        left, real = count, os.fsync

        def sync(descriptor: int) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(descriptor)

        opened = site()
        os.fsync = sync
        os.write(send, step(opened))
        os._exit(0)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    return answer if os.waitstatus_to_exitcode(status) == 0 else None


@pytest.mark.parametrize("phase", STEPS)
def test_kill_9_at_any_write_gives_no_second_answer(four: Federation, phase: Phase, tmp_path: Path) -> None:
    """After each sync of each step: the next process continues, or refuses the attempt; the round has one sum."""
    four.until(phase)
    request, folder, four.sites[1] = four.coordinator.requests()[1], four.folder / "site-1", four.sites[1]
    four.sites[1].close()
    shutil.copytree(folder, saved := four.folder / "saved")

    def opened() -> Site:
        return Site(identity(1), four.setting, folder)

    def step(site: Site) -> bytes:
        four.sites[1] = site
        return four.answer(1, request, phase)

    for count in range(1, 20):
        shutil.rmtree(folder)
        shutil.copytree(saved, folder)
        finished = killed_at(opened, step, count)
        again = opened()
        try:
            answer = step(again)
            assert finished in (None, answer)
            again.close()
            assert step(opened()) == answer
            assert (folder / "attempt").exists() == (phase != Phase.REVEAL)
        except Refused as refused:
            assert finished is None and phase == Phase.KEYS and "begun before" in str(refused)
        four.sites[1].close()
        if finished is not None:
            break
    assert finished is not None and count > 1
    four.restart(1)
    four.run()
    assert four.is_sum_of({1, 2, 3, 4})


def test_secrets_are_erased_when_the_round_or_the_attempt_is_over(four: Federation) -> None:
    def secrets_of(site: int) -> list[bytes]:
        record = four.sites[site]._journal.steps[Step.KEYS]
        return [record.secret[start : start + 32] for start in (0, 32, 64)]

    def on_disk(site: int) -> bytes:
        folder = four.folder / f"site-{site}"
        return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))

    four.until(Phase.REVEAL)
    kept = {site: secrets_of(site) for site in (1, 2)}
    assert all(secret in on_disk(site) for site in (1, 2) for secret in kept[site])
    four.run()
    assert not any(secret in on_disk(1) for secret in kept[1])
    four.begin(2, model=b"2" * 32)
    four.phase()
    kept[2] = secrets_of(2)
    four.begin(2, attempt=1, model=b"2" * 32)
    four.phase()
    assert not any(secret in on_disk(2) for secret in kept[2])
    assert all(secret in on_disk(2) for secret in secrets_of(2))


def test_erasing_overwrites_before_it_removes(tmp_path: Path) -> None:
    """A second name of the file shows what the disk held."""
    file = RecordFile(tmp_path / "attempt")
    file.append(b"secret")
    os.link(file.path, tmp_path / "second")
    file.erase()
    assert not file.path.exists() and set((tmp_path / "second").read_bytes()) == {0}


def test_only_the_owner_can_read_a_journal(four: Federation) -> None:
    four.phase()
    folder = four.folder / "site-1"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o077 for path in folder.iterdir() if path.name != "lock"} == {
        "history": 0,
        "attempt": 0,
    }


def test_an_answer_that_cannot_be_written_does_not_leave(four: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    four.phase()
    request = four.coordinator.requests()[1]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            four.sites[1].share(request)
    four.restart(1)
    four.run()
    assert four.is_sum_of({1, 2, 3, 4})


def test_a_site_that_was_killed_while_it_revealed_answers_the_same_message_only(
    four: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the history's record and the answer's: other signatures, though right, would be a second answer."""
    four.until(Phase.REVEAL)
    request = four.coordinator.requests()[1]
    other = Agreements.decode(request)
    other = replace(other, agreements=other.agreements[:3])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(SiteJournal, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            four.sites[1].reveal(request)
    four.restart(1)
    with pytest.raises(Refused, match="round 1 was revealed before"):
        four.sites[1].reveal(other.encode())
    four.run()
    assert four.is_sum_of({1, 2, 3, 4})


def test_one_process_at_a_time(tmp_path: Path) -> None:
    first = SiteJournal(tmp_path / "journal")
    with pytest.raises(PipelineError, match="is in use: another process takes part with this journal"):
        SiteJournal(tmp_path / "journal")
    first.close()
    SiteJournal(tmp_path / "journal").close()


def test_a_journal_of_another_setting_is_not_continued(four: Federation) -> None:
    four.phase()
    four.sites[1].close()
    other = Site(identity(1), setting_of(range(1, 5), training=b"other"), four.folder / "site-1")
    assert other.next_step is None
    with pytest.raises(Refused, match="step share is out of turn"):
        other.share(four.coordinator.requests()[1])


def test_records_that_are_not_whole_are_dropped_and_changed_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = RecordFile(path)
    for record in (b"one", b"two", b""):
        file.append(record)
    whole = path.read_bytes()
    assert RecordFile(path).records == [b"one", b"two", b""]
    ends = [44 + 3, 2 * (44 + 3), 3 * 44 + 6]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert len(RecordFile(path).records) == sum(end <= size for end in ends)
        assert path.stat().st_size == max([0, *(end for end in ends if end <= size)])
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x80]) + whole[at + 1 :])
        with pytest.raises(PipelineError, match=f"{path} is damaged at byte"):
            RecordFile(path)


def test_an_append_that_failed_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for this process, which continues, nor for the next one."""
    file = RecordFile(tmp_path / "file")
    file.append(b"one")
    with monkeypatch.context() as patched:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patched.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.append(b"lost")
    file.append(b"two", b"!")
    assert RecordFile(tmp_path / "file").records == [b"one", b"two!"]


def test_history_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    RecordFile(tmp_path / "history").append(bytes([9]) + bytes(40))
    with pytest.raises(PipelineError, match="a record of an unknown kind 9"):
        SiteJournal(tmp_path)


def test_a_coordinator_does_not_take_the_journal_of_another_attempt(four: Federation) -> None:
    file = four.coordinator._journal.path
    with pytest.raises(PipelineError, match="is the journal of another attempt"):
        Coordinator(four.setting, Begin.of(four.setting, 1, 1, MODEL), file)
    four.until(Phase.AGREE)
    records = RecordFile(file).records
    file.unlink()
    for record in (records[0], records[2]):
        RecordFile(file).append(record)
    with pytest.raises(PipelineError, match="phases out of turn"):
        Coordinator(four.setting, four.coordinator.begin, file)


def test_the_coordinators_journal_holds_no_secret_and_no_single_vector(four: Federation) -> None:
    four.until(Phase.MASK)
    answers = four.phase()
    data = four.coordinator._journal.path.read_bytes()
    for site, answer in answers.items():
        assert answer[48:88] not in data  # masked words
        secret = four.sites[site]._journal.steps[Step.KEYS].secret
        assert not any(secret[start : start + 32] in data for start in (0, 32, 64))


def test_the_answer_is_in_the_journal_before_it_is_returned(four: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync is the last thing that a step waits for: what was written then is the answer."""
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), real(descriptor))[1])
    while (phase := four.coordinator.phase) != Phase.DONE:
        synced.clear()
        request = four.coordinator.requests()[1]
        answer = four.answer(1, request)
        stored = RecordFile(four.folder / "site-1" / ("answer" if phase == Phase.REVEAL else "attempt")).records
        assert synced and journal.StepRecord.decode(stored[-1]).answer == answer
        four.phase()
