"""Between nodes only: frames and connections. People and programs outside use HTTP."""
