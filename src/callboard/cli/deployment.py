"""`callboard up` and `callboard down`: the agent of a data directory in this process, or one in the background; and its end.

`serve` is for every command that becomes an agent.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import msgspec
from cyclopts import Parameter

from callboard import brokers, databases, ensembles, errors, settings
from callboard.cli import configuration, exits, output, supervisor
from callboard.kit import telemetry
from callboard.node import agent, layout, published, rebirth, shutdown

LOG: Final = "agent.log"
"""What an agent in the background says, in the data directory."""

Data = Annotated[str | None, Parameter(help="Data directory. [.callboard, or $CALLBOARD_DATA]")]
Json = Annotated[bool, Parameter(name="--json", help="Print JSON.")]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent in the background tells the command that started it."""

    started: agent.Started | None = None
    code: str = ""
    message: str = ""
    exit: int = exits.Exit.STARTUP


class _Held(io.StringIO):
    """A log that is kept back until the start went well: one that fails is told in one line."""

    def __init__(self, behind: TextIO) -> None:
        super().__init__()
        self._behind = behind
        self._held = True

    def write(self, text: str) -> int:
        if self._held:
            return super().write(text)
        with contextlib.suppress(OSError):  # The terminal was closed: nobody listens any more.
            self._behind.write(text)
        return len(text)

    def flush(self) -> None:
        if not self._held:
            with contextlib.suppress(OSError):
                self._behind.flush()

    def let_go(self) -> None:
        """Say what was kept back, and everything from now on at once."""
        self._held = False
        self.write(self.getvalue())
        self.flush()


def up(
    app: Annotated[str | None, Parameter(help="Whose jobs and services are run. Without it: the built-in demo kinds.")] = None,
    /,
    *,
    workers: Annotated[int | None, Parameter(help="Worker processes. [2]")] = None,
    slots: Annotated[int | None, Parameter(help="Jobs that one worker runs at a time. [16]")] = None,
    services: Annotated[int | None, Parameter(help="Service processes: one serves, the others stand by. [2]")] = None,
    gateways: Annotated[int | None, Parameter(help="Gateway processes, on ports that follow each other. [1]")] = None,
    host: Annotated[str | None, Parameter(help="Address to listen on. [127.0.0.1]")] = None,
    port: Annotated[int | None, Parameter(help="TCP port of the first gateway. [8321]")] = None,
    data: Data = None,
    store: Annotated[str | None, Parameter(help="URL of the store. [sqlite in the data directory]")] = None,
    coordination: Annotated[str | None, Parameter(help="URL of the coordination. [local, in the data directory]")] = None,
    bridge: Annotated[tuple[str, ...], Parameter(help="URL of a message broker to take jobs from; again for others.")] = (),
    config: Annotated[Path | None, Parameter(help="Settings file. [callboard.toml here, or $CALLBOARD_CONFIG]")] = None,
    set: Annotated[tuple[str, ...], Parameter(help="Any other setting, as name=value.")] = (),
    detach: Annotated[bool, Parameter(help="Return once it is up, and leave it running.")] = False,
    json: Json = False,
) -> int:
    """Start Callboard on this machine: an agent, gateways, workers, services. Ctrl-C stops it and lets running jobs end.

    APP is written MODULE:APP, like images:app for what `app = Callboard("images")` in images.py made.
    """
    own = {
        "app": app,
        "worker.count": workers,
        "worker.slots": slots,
        "service.count": services,
        "gateway.count": gateways,
        "gateway.host": host,
        "gateway.port": port,
        "data": data,
        "store.url": store,
        "coordination.url": coordination,
        "bridge.urls": list(bridge) or None,
    }
    flags = configuration.assigned(set) | {name: value for name, value in own.items() if value is not None}
    given = configuration.load(config, flags)
    if detach:
        return _behind(given, data, json)
    return serve(given, data, json=json)


def serve(given: settings.Settings, data: str | None, *, json: bool, file: published.File = published.NONE) -> exits.Exit:
    """Be the agent, in the foreground, until a signal; `data` is what other commands are to be told with --data, `file` what the
    settings are from."""
    watched = supervisor.claim()
    log = _Held(sys.stderr)
    telemetry.configure(given.log.level, given.log.form, log, role="agent")

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        # A terminal that is closed ends it like Ctrl-C; its nodes would go on without it otherwise.
        signal.signal(signal.SIGHUP, lambda _number, _frame: signal.raise_signal(signal.SIGTERM))

    def ready(started: agent.Started) -> None:
        if not started.again:
            _announce(given, started, data, json=json)
        log.let_go()
        watched.ready()

    again = rebirth.Again(environment=watched.environment, before=watched.reloading)
    agent.run(given, ready, file=file, again=again)
    with contextlib.suppress(OSError):
        output.note("stopped")
    return exits.Exit.OK


def down(
    *,
    data: Data = None,
    config: Annotated[Path | None, Parameter(help="Settings file. [callboard.toml here, or $CALLBOARD_CONFIG]")] = None,
    grace: Annotated[float | None, Parameter(help="Seconds that running jobs get. [as 'up' was told: 10]")] = None,
    json: Json = False,
) -> int:
    """Stop what `up` started for a data directory: its agent and all nodes. Unfinished jobs stay in the store."""
    given = configuration.load(config, {"data": data, "worker.grace_seconds": grace})
    stopped = shutdown.stop(given.directory, given.worker.grace_seconds)
    if json:
        output.document(stopped)
        return exits.Exit.OK
    what = "the agent and its nodes" if stopped.agent else f"{stopped.orphans} nodes that a dead agent had left"
    killed = f"; {stopped.killed} had to be killed" if stopped.killed else ""
    output.line(f"Stopped {what}{killed}.")
    return exits.Exit.OK


def _announce(given: settings.Settings, started: agent.Started, data: str | None, *, json: bool, behind: bool = False) -> None:
    if json:
        output.document({**msgspec.to_builtins(started), "detached": behind})
        return
    place = f" --data {data}" if data else ""
    kept = layout.Layout(given.directory).local
    grace = f"running jobs get {given.worker.grace_seconds:g} s"
    facts: list[tuple[str, Any]] = [
        ("listening", " ".join(started.urls) or "nowhere: it has no gateway"),
        ("API docs", f"{started.urls[0]}/docs" if started.urls else None),
        ("server", f"{given.wire.server} of {given.cluster}, at {given.wire.host}" if given.wire.server else None),
        ("data", started.directory),
        ("store", _shown(given.store_url)),
        ("programs", _overlooked(given)),
        ("coordination", _shown(given.coordination_url)),
        ("bridge", " ".join(filter(None, map(_shown, given.bridge.urls))) or None),
        ("serving", given.app or "the built-in kinds: demo.echo, demo.sleep, demo.fail, demo.inspect"),
        ("workers", f"{given.worker.count} with {given.worker.slots} slots each"),
        ("adopted", f"{started.adopted} nodes that a dead agent had left" if started.adopted else None),
        ("nodes", "none: this server is drained" if started.drained else None),
        ("admin key", f"{started.new_key} (shown once; the commands here find it in {kept})" if started.new_key else None),
        ("submit", f"callboard submit{place} " + ("KIND name=value --wait" if given.app else "demo.echo value=hello --wait")),
        ("look", f"callboard jobs{place}"),
        ("stop", f"callboard down{place} ({grace})" if behind else f"Ctrl-C, or callboard down{place} ({grace})"),
    ]
    output.line("Callboard is up.")
    output.facts(facts)


def _shown(url: str) -> str | None:
    """The URL of a server (a database, an ensemble, a broker) without its password; None for what lies in the data directory."""
    room = next((room for room in (databases, ensembles, brokers) if room.named(url)), None)
    return room.shown(url) if room else None


def _overlooked(given: settings.Settings) -> str | None:
    """A word for those whose programs here would open another store: they know nothing of the flags of this command."""
    file = Path(settings.FILE)
    here = settings.load(file if file.exists() else None, os.environ)
    if not _shown(given.store_url) or here.store_url == given.store_url:
        return None
    return "app.connect() opens another store here: put store.url into callboard.toml, or set CALLBOARD_STORE_URL"


def _behind(given: settings.Settings, data: str | None, json: bool) -> int:
    """Have a forked process be the agent; wait until it is ready or cannot be. Nothing is open in this one yet."""
    place = layout.Layout(given.directory)
    place.prepare()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _leave_terminal(given.directory / LOG)
        os._exit(_agent(given, writing))
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            words = pipe.read()
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        raise
    said = (
        msgspec.json.decode(words, type=Said)
        if words
        else Said(code=errors.StartupError.code, message=f"the agent ended without a word: see {given.directory / LOG}")
    )
    if said.started is None:
        output.complain(said.message, said.code)
        return said.exit
    _announce(given, said.started, data, json=json, behind=True)
    return exits.Exit.OK


def _leave_terminal(log: Path) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for descriptor, target in ((nothing, 0), (written, 1), (written, 2)):
        os.dup2(descriptor, target)


def _agent(given: settings.Settings, writing: int) -> int:
    """Be the agent; tell over the pipe how its start went. What comes later goes to the log alone."""
    waiting = True

    def tell(said: Said) -> None:
        nonlocal waiting
        if waiting:
            waiting = False
            with contextlib.suppress(BrokenPipeError):  # Whoever started it did not wait.
                os.write(writing, msgspec.json.encode(said))
            os.close(writing)

    try:
        telemetry.configure(given.log.level, given.log.form, role="agent")
        command = tuple(word for word in rebirth.Again().command if not word.startswith("--detach"))
        agent.run(given, lambda started: tell(Said(started=started)), again=rebirth.Again(command=command))
    except errors.CallboardError as error:
        output.complain(error.message, error.code)
        tell(Said(code=error.code, message=error.message, exit=exits.of(error)))
        return exits.of(error)
    return exits.Exit.OK
