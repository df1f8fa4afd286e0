"""The processes of a server: nodes, put together from engines and roles, and the agent that keeps them alive."""
