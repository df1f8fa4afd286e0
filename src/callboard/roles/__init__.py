"""The units of function with a lifecycle that a node hosts."""
