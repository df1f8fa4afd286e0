"""Clocks, ids, codecs, URLs, lifecycles: what every floor above uses. Knows nothing of jobs, names or nodes."""
