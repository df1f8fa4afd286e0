"""One file for all servers of a cluster: what it says, what is wrong with it, and which version of it was published.

`topology` reads the file, `pushed` keeps it in coordination. Called by the commands; nodes are given settings and know no file.
"""
