"""What every engine must keep, as suites that the author of an engine runs with pytest:

    from callboard.testing.conformance.jobs.suite import JobEngineSuite

    class TestMyEngine(JobEngineSuite):
        url = "mine:///{path}/jobs"
"""
