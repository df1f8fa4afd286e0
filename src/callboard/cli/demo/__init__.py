"""`callboard demo`: real files, a job for each, a worker and a gateway killed in the middle, and an account of all of it.

`files` takes the snapshot and counts directly, `deployment` runs a Callboard of its own in a temporary directory, `course`
submits, kills and collects, `account` judges what was collected, `showing` is what people see meanwhile, `command` ties them
together.
"""
