"""In a site's job process of NVIDIA FLARE: a task becomes a question to the site's own process (flare_site.py).

It has no access to samples, and holds nothing but the question under way.
"""

import threading
import time
from pathlib import Path

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fedpipe.errors import PipelineError
from fedpipe.links.flare import kit
from fedpipe.links.flare.job import ABSENT, ALIVE, CONTENT, LARGEST, TASK, remove_old_jobs
from fedpipe.links.local import Kind, LocalMessage, connect

_IDLE_SECONDS = 60.0  # without a sign of the server's job; without this limit the process would stay for ever
_PAUSE_SECONDS = 0.5
_ABSENT_SECONDS = 600.0  # how long the site's own process may be away with a question


class SiteExecutor(Executor):
    """The executor of the job."""

    def __init__(self) -> None:
        super().__init__()
        self._root = Path()
        self._heard_at = time.monotonic()
        self._ended = threading.Event()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Checks at the beginning what it does not work without."""
        if event_type == EventType.START_RUN:
            self._root = Path(fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT).get_root_dir())
            try:
                kit.require_encrypted()
            except PipelineError as error:
                self.system_panic(str(error), fl_ctx)
                return
            remove_old_jobs(self._root, fl_ctx.get_job_id())
            engine = fl_ctx.get_engine()
            engine.register_aux_message_handler(ALIVE, self._hear)
            threading.Thread(target=self._watch, args=(engine,), daemon=True).start()
        elif event_type == EventType.END_RUN:
            self._ended.set()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Asks the site's process, again when it was started anew, and returns its answer."""
        if task_name != TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        reply, started = make_reply(ReturnCode.OK), time.monotonic()
        while not abort_signal.triggered:
            try:
                reply[CONTENT] = self._answer(shareable[CONTENT], abort_signal)
            except (OSError, EOFError, PipelineError) as error:
                if time.monotonic() - started > _ABSENT_SECONDS:
                    reply[ABSENT] = (
                        f"its own process was not there for {_ABSENT_SECONDS:g} s: start it (make flare-site)"
                    )
                    return reply
                self.log_info(fl_ctx, f"the site's own process does not answer ({error!r}); tries again")
                time.sleep(_PAUSE_SECONDS)
            else:
                return reply
        return make_reply(ReturnCode.TASK_ABORTED)

    def _answer(self, question: bytes, abort_signal: Signal) -> bytes:
        site = connect(kit.site_socket(self._root))
        try:
            site.send(LocalMessage(Kind.QUESTION, content=question))
            while not site.is_readable(_PAUSE_SECONDS):
                if abort_signal.triggered:
                    raise EOFError
            return site.receive(LARGEST).content
        finally:
            site.close()

    def _hear(self, topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        self._heard_at = time.monotonic()
        return make_reply(ReturnCode.OK)

    def _watch(self, engine: object) -> None:
        while not self._ended.wait(_PAUSE_SECONDS):
            if time.monotonic() - self._heard_at > _IDLE_SECONDS:
                with engine.new_context() as context:  # type: ignore[attr-defined]
                    self.system_panic("the server's job is gone", context)
                return
