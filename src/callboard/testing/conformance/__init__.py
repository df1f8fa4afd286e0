"""What every engine must keep, as suites that the author of an engine runs with pytest.

For a job engine: subclass `callboard.testing.conformance.jobs.suite.JobEngineSuite` as `TestMyEngine` in a test module, and
give it `url = "mine:///{path}/jobs"`; every promise of the seam becomes a test. Without pytest: `jobs.broken`.
"""
