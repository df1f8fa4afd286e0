"""The commands there are, each by the name of its function: its module is imported when it is used, not before."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Final

import cyclopts

from callboard.cli import exits

DEPLOYMENT: Final = cyclopts.Group("Deployment", sort_key=1)
JOBS: Final = cyclopts.Group("Jobs", sort_key=2)
CALLS: Final = cyclopts.Group("Services", sort_key=3)
AROUND: Final = cyclopts.Group("Around", sort_key=4)

COMMANDS: Final[tuple[tuple[str, cyclopts.Group, str, str], ...]] = (
    ("up", DEPLOYMENT, "callboard.cli.deployment:up", "Start Callboard on this machine."),
    ("down", DEPLOYMENT, "callboard.cli.deployment:down", "Stop what 'up' started; running jobs get their grace time."),
    ("agent", DEPLOYMENT, "callboard.cli.servers:agent", "Start what a cluster's file says of this server."),
    ("reload", DEPLOYMENT, "callboard.cli.reloading:reload", "Take up new software and settings; replace nodes one by one."),
    ("systemd", DEPLOYMENT, "callboard.cli.servers:systemd", "Print a unit file for systemd."),
    ("check", DEPLOYMENT, "callboard.cli.stores:check", "Tell whether a store's server is fit."),
    ("migrate", DEPLOYMENT, "callboard.cli.stores:migrate", "Bring a store's schema to this version."),
    ("nodes", DEPLOYMENT, "callboard.cli.nodes:nodes", "List the live nodes."),
    ("view", DEPLOYMENT, "callboard.cli.view:view", "Show servers, nodes and offices, and follow what changes."),
    ("drain", DEPLOYMENT, "callboard.cli.wishes:drain", "Let nodes, or a server, come to their end."),
    ("undrain", DEPLOYMENT, "callboard.cli.wishes:undrain", "Let a drained server serve again."),
    ("renew", DEPLOYMENT, "callboard.cli.wishes:renew", "Replace what runs on servers, one node after another."),
    ("submit", JOBS, "callboard.cli.submit:submit", "Submit a job."),
    ("jobs", JOBS, "callboard.cli.jobs:jobs", "List jobs, newest first."),
    ("job", JOBS, "callboard.cli.jobs:job", "Show a job, or follow it to its end."),
    ("cancel", JOBS, "callboard.cli.jobs:cancel", "Cancel jobs."),
    ("retry", JOBS, "callboard.cli.jobs:retry", "Run finished jobs again."),
    ("queues", JOBS, "callboard.cli.queues:queues", "List queues with their jobs by state."),
    ("pause", JOBS, "callboard.cli.queues:pause", "Pause queues: nothing of them is started."),
    ("resume", JOBS, "callboard.cli.queues:resume", "Resume paused queues."),
    ("call", CALLS, "callboard.cli.calls:call", "Call a method of a named service."),
    ("broadcast", CALLS, "callboard.cli.calls:broadcast", "Call every instance of a role or a service."),
    ("names", CALLS, "callboard.cli.names:names", "List names, who answers for each, and who stands by."),
    ("ping", CALLS, "callboard.cli.names:ping", "Ask who answers for a name whether it does."),
    ("move", CALLS, "callboard.cli.names:move", "Have another instance take over a name."),
    ("demo", AROUND, "callboard.cli.demo.command:demo", "Watch nothing get lost, on your own files."),
    ("bench", AROUND, "callboard.cli.bench.command:bench", "Measure this machine."),
    ("bench-engines", AROUND, "callboard.cli.bench.engines:bench_engines", "Measure server databases beside their limit."),
    ("bench-servers", AROUND, "callboard.cli.bench.servers:bench_servers", "Kill parts of two servers and measure it."),
    ("version", AROUND, "callboard.cli.version:version", "Print the version."),
)
"""Name, group in the help, where its function is, and what the help says of it."""

KEYS: Final[tuple[tuple[str, str, str], ...]] = (
    ("create", "callboard.cli.keys:create", "Make an API key; it is shown once."),
    ("list", "callboard.cli.keys:listed", "List API keys, without their secrets."),
    ("revoke", "callboard.cli.keys:revoke", "Revoke API keys for good."),
)
CERTS: Final[tuple[tuple[str, str, str], ...]] = (
    ("init", "callboard.cli.certs:init", "Make a cluster's authority."),
    ("issue", "callboard.cli.certs:issue", "Make a key and a certificate for a server."),
)
CONFIG: Final[tuple[tuple[str, str, str], ...]] = (
    ("check", "callboard.cli.config:check", "Tell what each server runs, or all that is wrong."),
    ("push", "callboard.cli.config:push", "Publish a version: servers with older ones stand for no office."),
)
GROUPS: Final[tuple[tuple[str, cyclopts.Group, str, tuple[tuple[str, str, str], ...]], ...]] = (
    ("config", DEPLOYMENT, "Check and publish the one file for all servers of a cluster.", CONFIG),
    ("certs", DEPLOYMENT, "Make the certificates by which servers of a cluster know each other.", CERTS),
    ("key", AROUND, "Make, list and revoke API keys.", KEYS),
)
"""Commands of two words: the first one, its group in the help, what the help says of it, and the second words."""


def _application(name: str, help: str, group: cyclopts.Group | None = None) -> cyclopts.App:
    return cyclopts.App(
        name=name,
        help=help,
        group=group,
        help_epilogue="",
        help_format="plaintext",
        help_formatter="default" if sys.stdout.isatty() else "plain",
        version_flags=[],
        default_parameter=cyclopts.Parameter(negative=(), show_default=False),
        result_action="return_value",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
    )


def build(tokens: Collection[str] = ()) -> cyclopts.App:
    """Return the application for a command line. A command that is named in it tells its own, longer help."""
    root = _application("callboard", "Durable jobs, never lost, run by whoever is alive; and services found by name.")
    words = (f"{code.value} {code.name.lower().replace('_', ' ')}" for code in exits.Exit)
    root.help_epilogue = f"Exit codes: {', '.join(words)}."
    for place, (name, group, path, text) in enumerate(COMMANDS):
        help = None if name in tokens else text
        root.command(path, name=name, help=help, group=group, sort_key=place, help_epilogue="")
    for first, group, help, commands in GROUPS:
        several = _application(first, help, group)
        for place, (name, path, text) in enumerate(commands):
            several.command(path, name=name, help=None if name in tokens else text, sort_key=place)
        root.command(several)
    return root
