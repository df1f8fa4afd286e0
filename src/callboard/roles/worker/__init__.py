"""The worker role: claims jobs for its free slots, runs their handlers, and settles them.

role       the role: its life, what it tells others
claims     the store's side: ends claims and makes new ones in one commit, keeps results while the store is away
door       the way in for jobs that a bridge brings, beside those that are claimed
runs       the handlers' side: what runs now, its timeouts, who asked it to end
loop, threads, processes   where handlers run; `child` and `pipe` are the other end of `processes`
endings    pure: from how a handler ended to what is written
"""

from callboard.roles.worker.role import Worker

__all__ = ["Worker"]
