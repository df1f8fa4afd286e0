"""The command line: each command starts a deployment, or talks to one through `callboard.client`.

`main` runs it, `commands` lists it, `exits` says what the exit codes mean. Modules of commands are loaded when their command
is used, and load what is heavy when they need it: `callboard submit` in a shell's loop must not wait for what it does not use.
"""
