"""What every engine must keep, as suites that the author of an engine runs with pytest.

For a job engine: subclass `callboard.testing.conformance.jobs.suite.JobEngineSuite` as `TestMyEngine` in a test module, and
give it `url = "mine:///{path}/jobs"`; every promise of the seam becomes a test. Without pytest: `jobs.broken`.

For an engine of coordination: subclass `coordination.suite.CoordinationSuite`, and `coordination.bench.Bench` for what can be
done to the engine: cut a client off, kill the leader. Without pytest: `coordination.broken`.
"""
