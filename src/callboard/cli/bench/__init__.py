"""`callboard bench`: what this machine reaches, as figures, a JSON file and a plot. Nothing here is a test.

Each module measures one thing on a deployment of its own, in a temporary directory that is removed again: `stream`
(durable throughput), `web` (submissions over HTTP), `latency` (an idle system), `backlog` (claims in front of a full store),
`idle` (what rest costs). `machine` says on what, `plot` draws, `command` ties them together.

`callboard bench-engines` (`engines`) is for server databases: rounds of `pairs`, each a bare driver's limit (`raw` and its two
drivers, by the processes of `hands`), the job engine alone (`engine_hand`) and everything from end to end; and `outage`.

`callboard bench-servers` (`servers`) kills parts of two servers that work together (`servers_ground`), and tells what it costs.
"""
