"""Real servers for tests: private instances on free ports of loopback, with their data in a temporary directory.

One module for each product (`zookeeper`, `mariadb`, `galera`, `postgresql`, `haproxy`, `activemq`), which tells whether it is
`installed` and has a class to start, stop, kill and freeze what tests need of it. `places` makes hosts that are cut off from each
other and healed, for servers to run in. `packages` installs what is missing on Debian and Ubuntu:
`python -m callboard.testing.engines install`. `ground`, `servers` and `trees` see to it that nothing outlives its test run.
"""
