"""The bridge role: takes the next message of a broker only when its node has a free slot, and makes it a job, claimed at once.

role           the role: its life, what it tells others
destinations   pure: which queues of a broker are consumed, and what they mean
messages       pure: the job that a message is
window         pure: which acknowledgements may be sent
feed           one broker's link and subscriptions
intake         stores what arrives, begins it, acknowledges it; gives it back while the store is away
answers        the words about finished jobs that `reply-to` asked for
"""

from callboard.roles.bridge.answers import Answers
from callboard.roles.bridge.destinations import chosen
from callboard.roles.bridge.role import Bridge

__all__ = ["Answers", "Bridge", "chosen"]
