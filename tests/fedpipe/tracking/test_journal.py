"""The journal and its delivery to a store that is not MLflow; tests/test_tracking.py has the real one."""

import fcntl
import json
import math
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import layout
from fedpipe.errors import PipelineError
from fedpipe.tracking import delivery, journal, outbox, run_events, writer
from fedpipe.tracking.delivery import Unreachable, deliver_finished, ship
from fedpipe.tracking.outbox import Journal
from tests import RECIPE, ROOT
from tests.recorded import record as record_stages

STARTED = {"name": "a run", "dataset": {"name": "mnist", "digest": "ab" * 32, "source": "data/clients"}}


def places():
    """Where an evaluation is recorded, and the pipeline that it is of."""
    return layout.outbox(), layout.pipeline_files()


class NoFollower:
    """A follower that is gone at once."""

    def terminate(self) -> None:
        pass

    def poll(self):
        return None

    def wait(self, seconds: float | None = None) -> int:
        return 0


class FakeStore:
    """Keeps what it is told; raises the next of ``troubles`` (None: no trouble) before it logs."""

    def __init__(self, troubles: list[Exception | None] = (), trained: str | None = None) -> None:
        self.logged: list[tuple[str, dict]] = []
        self.made: dict[str, str] = {}
        self.count = 0
        self.troubles = list(troubles)
        self.trained = trained

    def run_of_journal(self, journal, experiment):
        return self.made.get(journal)

    def run_of_weights(self, sha256, experiment, dvc_experiment):
        return self.trained

    def create_run(self, journal, start):
        self.made[journal] = f"run {self.count}"
        self.count += 1
        return self.made[journal]

    def run_name(self, run_id):
        return run_id

    def machine_metrics(self):
        return {}

    def last_step(self, run_id, metric):
        logged = [event for run, event in self.logged if run == run_id]
        return max((event["step"] for event in logged if metric in event.get("metrics", {})), default=-1)

    def log(self, run_id, event, folder):
        time.sleep(0.001)
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble:
            raise trouble
        self.logged.append((run_id, event))

    def kinds(self):
        return [event["event"] for _, event in self.logged]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml and a training's outputs; nothing is delivered by itself."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEDPIPE_TRACKING", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(writer, "_start_follower", lambda *_: NoFollower())
    Path("params.yaml").write_text((RECIPE / "params.yaml").read_text())
    Path("weights").write_bytes(b"some weights")
    for path, text in {
        layout.ROUNDS: "round,train_loss,train_accuracy\n1,2.0,0.5\n2,1.5,0.7\n",
        layout.TRAINING: json.dumps({"train": {"loss": 1.5}, "rounds": 2, "weights_sha256": "abc"}),
        layout.CLIENTS / "manifest.json": json.dumps(
            {"dataset": "mnist", "digest": "cd" * 32, "clients": 600, "more": [1]}
        ),
    }.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    record_stages(tmp_path, {"download": [], "partition": [], "train": [layout.ROUNDS, layout.TRAINING]})
    return tmp_path


def record(rounds: int = 2) -> Journal:
    """Records a training that nobody delivers."""
    with journal.record_training(STARTED, layout.outbox()) as run:
        for number in range(1, rounds + 1):
            run.log_round(number, {"train_loss": 1 / number})
        run.log_results(Path("weights"), tables=[layout.ROUNDS], figures={"seconds": 1, "note": "x"})
    return layout.outbox().pending()[-1]


def killed(rounds: int, earlier: journal.Earlier | None = None, **train: object) -> dict[str, str]:
    """Records a training with the params ``train``, killed after ``rounds`` rounds; returns its run's identity."""
    run = journal.record_training(STARTED | ({"params": {"train": train}} if train else {}), layout.outbox(), earlier)
    run.__enter__()
    for number in range(len(earlier.rounds) + 1 if earlier else 1, rounds + 1):
        run.log_round(number, {"train_loss": 1 / number})
    run._writer._events.close()  # as the kernel does
    return dict(run.identity)


def resume(identity: dict[str, str], after: int) -> journal.Earlier:
    return journal.Earlier(identity, [{"train_loss": 1 / number} for number in range(1, after + 1)])


def test_a_resumed_training_goes_on_in_its_run_with_each_round_once(project):
    store = FakeStore()
    identity = killed(5)
    identity = killed(7, resume(identity, 3))
    with journal.record_training(STARTED, layout.outbox(), resume(identity, 6)) as run:
        for number in (7, 8):
            run.log_round(number, {"train_loss": 1 / number})
    for each in layout.outbox().pending():
        ship(each, store)
    assert {run for run, _ in store.logged} == {"run 0"}
    steps = [event["step"] for _, event in store.logged if event["event"] == "metrics"]
    assert steps == [1, 2, 3, 4, 5, 6, 7, 8]
    ends = [event["status"] for _, event in store.logged if event["event"] == "end"]
    assert ends == ["KILLED", "KILLED", "FINISHED"]


def test_a_resumed_training_whose_run_is_gone_gets_one_with_all_rounds(project):
    identity = killed(5)
    resumed = killed(6, resume(identity, 4))
    assert resumed == identity
    store = FakeStore()
    ship(layout.outbox().pending()[-1], store)
    assert store.made == {identity["journal"]: "run 0"}
    assert [event["step"] for _, event in store.logged if event["event"] == "metrics"] == [1, 2, 3, 4, 5, 6]


def test_with_other_params_a_resumed_training_is_another_run(project):
    identity = killed(5, rounds_=10, checkpoint={"seconds": 10})
    # 'train.checkpoint' is none of the run's params.
    assert killed(6, resume(identity, 4), rounds_=10, checkpoint={"seconds": 20}) == identity
    assert killed(6, resume(identity, 4), rounds_=20, checkpoint={"seconds": 10}) != identity
    store = FakeStore()
    for each in layout.outbox().pending():
        ship(each, store)
    assert len(store.made) == 2
    steps = [event["step"] for run, event in store.logged if run == "run 1" and event["event"] == "metrics"]
    assert steps == [1, 2, 3, 4, 5, 6]


keys = st.text("abc_", min_size=1, max_size=3)


@given(st.data())
def test_a_journal_cut_anywhere_gives_its_whole_events(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    events = data.draw(st.lists(st.dictionaries(keys, st.text(max_size=5)), max_size=5))
    lines = [json.dumps(event).encode() + b"\n" for event in events]
    whole = b"".join(lines)
    cut = data.draw(st.integers(0, len(whole)))
    (folder / "events.jsonl").write_bytes(whole[:cut])
    read = list(Journal(folder).events())
    assert [event for event, _ in read] == events[: whole[:cut].count(b"\n")]
    # What comes later continues where the reader stopped.
    (folder / "events.jsonl").write_bytes(whole)
    rest = Journal(folder).events(read[-1][1] if read else 0)
    assert [event for event, _ in [*read, *rest]] == events


def test_a_damaged_line_is_named(tmp_path):
    (tmp_path / "events.jsonl").write_bytes(b'{"event": "start"}\n\0\0\0\n')
    with pytest.raises(PipelineError, match=r"events\.jsonl is damaged before byte 23"):
        list(Journal(tmp_path).events())


def test_stages_do_not_import_mlflow():
    absent = ("mlflow", "tensorflow", "pandas")
    code = f"import sys, fedpipe.tracking.journal; sys.exit(any(m in sys.modules for m in {absent}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_off_writes_nothing(project, monkeypatch):
    monkeypatch.setenv("FEDPIPE_TRACKING", "off")
    with journal.record_training(STARTED, layout.outbox()) as run:
        run.log_round(1, {"train_loss": 1.0})
        run.log_results(weights=Path("weights"), tables=[], pictures=[], figures={})
    journal.record_evaluation(*places(), Path("weights"), {"accuracy": 1.0})
    assert not Path("logs").exists()


def test_an_error_in_the_block_is_the_runs_end_and_goes_on(project):
    for error, status in ((ValueError("no"), "FAILED"), (KeyboardInterrupt(), "KILLED")):
        with pytest.raises(type(error)), journal.record_training(STARTED, layout.outbox()):
            raise error
        *_, (last, _) = layout.outbox().pending()[-1].events()
        assert (last["event"], last["status"]) == ("end", status)
    assert last["tags"].pop("mlflow.note.content").endswith("stopped by Ctrl-C; `dvc repro` resumes it, after 0 rounds")
    assert last["tags"] == {"fedpipe.failure": "stopped by Ctrl-C"}


def test_a_diverged_loss_is_recorded(project):
    with journal.record_training(STARTED, layout.outbox()) as run:
        run.log_round(1, {"train_loss": math.nan, "norm": math.inf})
    metrics = [event for event, _ in layout.outbox().pending()[0].events()][1]["metrics"]
    assert math.isnan(metrics["train/loss"]) and metrics["clients/norm"] == math.inf


def test_what_is_to_be_uploaded_is_a_copy(project):
    recorded = record()
    Path("weights").write_bytes(b"other weights")
    event = next(event for event, _ in recorded.events() if event["event"] == "results")
    assert (recorded.path / event["weights"]).read_bytes() == b"some weights"
    assert event["tags"][run_events.WEIGHTS_TAG] == run_events.sha256(recorded.path / event["weights"])
    assert event["metrics"] == {"seconds": 1.0} and event["tags"]["note"] == "x"


def test_the_end_says_what_is_kept_and_where(project, capsys):
    recorded = record()
    output = capsys.readouterr().err
    assert "its 5 events are kept in logs/tracking/pending" in output and "make sync" in output
    assert output.count("\n") == 1
    assert recorded.is_ended()


@pytest.mark.parametrize(
    ("ending", "sentence"), [("kill -KILL $$", "was ended by SIGKILL"), ("exit 3", "ended with exit code 3")]
)
def test_a_follower_that_is_gone_is_said_as_that(project, capsys, monkeypatch, ending, sentence):
    follower = subprocess.Popen(["sh", "-c", ending])
    follower.wait()
    monkeypatch.setattr(writer, "_start_follower", lambda *_: follower)
    with journal.record_training(STARTED, layout.outbox()) as run:
        for number in (1, 2):
            run.log_round(number, {"train_loss": 1.0})
        during = capsys.readouterr().err
    after = capsys.readouterr().err
    sentence = f"does not get the run, since the process that delivers it {sentence} (see logs/tracking.log); the run"
    assert f"{sentence} continues, and its events are kept in logs/tracking/pending" in during
    assert during.count("\n") == 1
    assert f"{sentence} continued, and its 4 events are kept" in after and "within" not in after


def test_trouble_is_said_once_while_the_run_goes_on(project, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@server:5000")
    with journal.record_training(STARTED, layout.outbox()) as run:
        run.log_round(1, {"train_loss": 1.0})
        assert capsys.readouterr().err == ""
        layout.outbox().pending()[0].save(outbox.Delivery(trouble="cannot be reached (Connection refused)"))
        for number in (2, 3):
            run.log_round(number, {"train_loss": 1.0})
        output = capsys.readouterr().err
    assert output.count("MLflow: http://server:5000 cannot be reached (Connection refused); the run continues") == 1
    assert "secret" not in output


@given(st.lists(st.booleans(), max_size=20))
def test_delivery_resumes_wherever_it_was_interrupted(tmp_path_factory, interruptions):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("resume"))
        patch.setattr(writer, "_start_follower", lambda *_: NoFollower())
        Path("params.yaml").write_text((RECIPE / "params.yaml").read_text())
        Path("weights").write_bytes(b"w")
        layout.ROUNDS.parent.mkdir()
        layout.ROUNDS.write_text("round\n")
        recorded = record(rounds=3)
        store = FakeStore([Unreachable("down") if stop else None for stop in interruptions])
        for _ in [*interruptions, None]:
            try:
                if ship(recorded, store).done:
                    break
            except Unreachable:
                continue
        assert store.kinds() == ["start", "metrics", "metrics", "metrics", "results", "end"]
        assert store.count == 1


def test_a_follower_killed_before_it_remembered_makes_no_second_run(project):
    recorded, store = record(), FakeStore()
    ship(recorded, store)
    (recorded.path / "delivery.json").unlink()
    ship(recorded, store)
    assert {run for run, _ in store.logged} == {"run 0"}


def test_a_killed_writer_ends_its_run_at_its_last_sign_of_life(project):
    with journal.record_training(STARTED, layout.outbox()) as run:
        run.log_round(1, {"train_loss": 1.0})
        alive = layout.outbox().pending()[0]
        store = FakeStore()
        assert not ship(alive, store).done and store.kinds() == ["start", "metrics"]
        fcntl.flock(run._writer._events, fcntl.LOCK_UN)  # as the kernel does when the process is killed
        assert ship(alive, store).done
    end, last = store.logged[-1][1], store.logged[-2][1]
    assert end["status"] == "KILLED" and end["time"] == last["time"]


def test_an_evaluation_belongs_to_the_run_of_its_weights(project):
    journal.record_evaluation(*places(), Path("weights"), {"test": {"accuracy": 0.9}})
    store = FakeStore(trained="the trained")
    deliver_finished(layout.outbox().pending()[0], store)
    assert {run for run, _ in store.logged} == {"the trained"} and not store.made
    assert store.logged[1][1]["metrics"] == {"test/accuracy": 0.9}
    assert not store.logged[-1][1]["status"]  # the run's own stays


def test_a_clock_that_is_set_back_keeps_the_order_of_journals(project, monkeypatch):
    with journal.record_training(STARTED, layout.outbox()):
        pass

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) - timedelta(days=3)

    monkeypatch.setattr(writer, "datetime", Earlier)
    journal.record_evaluation(*places(), Path("weights"), {"accuracy": 0.9})
    assert ["training" in layout.outbox().pending()[0].name, "evaluation" in layout.outbox().pending()[1].name] == [
        True,
        True,
    ]


def test_an_evaluation_that_fails_leaves_no_journal(project):
    with pytest.raises(ValueError), journal.EvaluationRecord(*places()):
        assert len(layout.outbox().pending()) == 1  # its follower starts early
        raise ValueError("no")
    assert not layout.outbox().pending()


def test_an_evaluation_that_is_killed_leaves_no_trace_in_the_run(project):
    with suppress(FileNotFoundError), journal.EvaluationRecord(*places()) as record:
        alive, store = layout.outbox().pending()[0], FakeStore(trained="the trained")
        assert not ship(alive, store).done
        fcntl.flock(record._writer._events, fcntl.LOCK_UN)  # as the kernel does when the process is killed
        assert deliver_finished(alive, store).done
        assert not store.logged and not layout.outbox().pending()


def test_an_evaluation_without_a_run_brings_the_training_along(project):
    journal.record_evaluation(*places(), Path("weights"), {"accuracy": 0.9})
    store = FakeStore()
    deliver_finished(layout.outbox().pending()[0], store)
    assert store.kinds() == ["start", "metrics", "metrics", "results", "end", "evaluation", "results", "end"]
    events = [event for _, event in store.logged]
    assert events[0]["name"] == "default recipe"
    assert events[0]["tags"]["fedpipe.restored"] == "true" and events[0]["dataset"]["digest"] == "cd" * 32
    assert [(e["step"], e["metrics"]) for e in events[1:3]] == [
        (1, {"train/loss": 2.0, "train/accuracy": 0.5}),
        (2, {"train/loss": 1.5, "train/accuracy": 0.7}),
    ]
    assert events[3]["metrics"] == {"train/loss": 1.5} and "weights" in events[3]
    assert events[3]["step"] == events[6]["step"] == 2  # of the last round, whose measurements these are


def test_a_rebuilding_that_was_cut_short_is_done_again(project):
    journal.record_evaluation(*places(), Path("weights"), {"accuracy": 0.9})
    store = FakeStore([None, None, None, Unreachable("down")])
    with pytest.raises(Unreachable):
        ship(layout.outbox().pending()[0], store)
    store.trained = "run 0"  # found by its weights by now, though not complete
    assert ship(layout.outbox().pending()[0], store).done
    assert store.count == 1 and store.kinds()[-4:] == ["end", "evaluation", "results", "end"]


def test_two_deliverers_at_once_log_everything_once(project):
    recorded, store = record(rounds=20), FakeStore()
    threads = [threading.Thread(target=deliver_finished, args=(recorded, store)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.kinds()) == 23 and not recorded.path.exists()


def test_a_refused_journal_does_not_hold_up_the_others(project, capsys):
    refused, good, store = record(), record(), FakeStore([PipelineError("a tag is too long")])
    with pytest.raises(PipelineError, match="a tag is too long"):
        delivery.sync(layout.outbox(), lambda: store)
    assert refused.path.exists() and not good.path.exists()


def test_a_follower_delivers_what_is_older_first(project):
    old, new, store = record(rounds=1), record(rounds=2), FakeStore()
    delivery._deliver_older(new, store)
    assert not old.path.exists() and new.path.exists()


def test_unreachable_store_at_sync_is_one_sentence(project):
    record()
    with pytest.raises(PipelineError, match=r"cannot be reached \(down\); 1 of 1 journals stay"):
        delivery.sync(layout.outbox(), lambda: FakeStore([Unreachable("down")]))
    assert len(layout.outbox().pending()) == 1


def test_a_journal_without_a_whole_event_goes_away(project):
    recorded, store = record(), FakeStore()
    (recorded.path / "events.jsonl").write_bytes(b'{"eve')
    deliver_finished(recorded, store)
    assert not store.logged and not layout.outbox().pending()
