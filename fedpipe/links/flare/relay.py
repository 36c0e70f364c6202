"""In the server's job process of NVIDIA FLARE: a question from the coordinator's process becomes a task of one site.

It holds nothing but the questions under way. When the coordinator's process is gone, the job ends.
"""

import queue
import threading
from pathlib import Path

from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedpipe.errors import PipelineError
from fedpipe.links.flare import kit
from fedpipe.links.flare.job import (
    ABSENT,
    ALIVE,
    ALIVE_SECONDS,
    CONTENT,
    LARGEST,
    POLL_SECONDS,
    TASK,
    remove_old_jobs,
)
from fedpipe.links.local import Kind, LocalMessage, LocalSocket, connect

_LOOK_SECONDS = 0.2


class Relay(Controller):
    """The workflow of the job."""

    def __init__(self, run: str, sites: list[str]) -> None:
        """Both arguments are of the job (job.py)."""
        super().__init__(task_check_period=POLL_SECONDS)
        self._run, self._sites = run, sites
        self._coordinator: LocalSocket | None = None
        self._questions: queue.Queue[LocalMessage | None] = queue.Queue()
        self._ended = threading.Event()

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Connects to the coordinator's process."""
        root = Path(fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT).get_root_dir())
        try:
            kit.require_encrypted()
            remove_old_jobs(root, fl_ctx.get_job_id())
            self._coordinator = connect(kit.coordinator_socket(root))
            self._coordinator.send(LocalMessage(Kind.HELLO, content=self._run.encode()))
        except PipelineError as error:
            self.system_panic(str(error), fl_ctx)
        except OSError as error:
            self.system_panic(f"the coordinator's process is gone ({error.strerror})", fl_ctx)
        else:
            threading.Thread(target=self._read, args=(self._coordinator,), daemon=True).start()
            threading.Thread(target=self._keep_alive, daemon=True).start()

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """Sends each question to its site as a task, until the coordinator's process is gone."""
        while not abort_signal.triggered:
            try:
                question = self._questions.get(timeout=_LOOK_SECONDS)
            except queue.Empty:
                continue
            if question is None:
                return
            content = Shareable({CONTENT: question.content})
            task = Task(TASK, content, props={"number": question.number}, result_received_cb=self._answered)
            self.send(task, fl_ctx, targets=[question.site])

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Tells the coordinator's process which site is lost, before the job ends."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.CLIENT_DISCONNECTED:
            name = fl_ctx.get_prop(FLContextKey.DISCONNECTED_CLIENT_NAME) or ""
            self._say(LocalMessage(Kind.LOST, 0, name, b"its job in NVIDIA FLARE has ended"))

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Ends the connection."""
        self._ended.set()
        if self._coordinator is not None:
            self._coordinator.close()

    def process_result_of_unknown_task(
        self, client: object, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """Nothing: nobody waits for it."""

    def _answered(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        result, site, number = client_task.result, client_task.client.name, client_task.task.props["number"]
        code = result.get_return_code()
        if code != ReturnCode.OK:
            self._say(LocalMessage(Kind.LOST, number, site, f"NVIDIA FLARE reports {code} there".encode()))
        elif result.get(ABSENT):
            self._say(LocalMessage(Kind.LOST, number, site, str(result[ABSENT]).encode()))
        else:
            self._say(LocalMessage(Kind.ANSWER, number, site, result[CONTENT]))
        client_task.result = None  # frees it

    def _say(self, message: LocalMessage) -> None:
        try:
            if self._coordinator is not None:
                self._coordinator.send(message)
        except OSError:
            self._questions.put(None)

    def _read(self, coordinator: LocalSocket) -> None:
        try:
            while True:
                self._questions.put(coordinator.receive(LARGEST))
        except (OSError, EOFError, PipelineError):
            self._questions.put(None)

    def _keep_alive(self) -> None:
        """Executors end their process when they hear this no longer."""
        while not self._ended.wait(ALIVE_SECONDS):
            with self._engine.new_context() as context:
                self._engine.fire_and_forget_aux_request(
                    targets=self._sites, topic=ALIVE, request=Shareable(), fl_ctx=context, optional=True
                )
