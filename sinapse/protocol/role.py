"""Whether a Redis is the master: what it is asked, and what its answer means.

ROLE would say the same, but services that host Redis refuse or rename it; INFO is needed anyway.
"""

#: What a node is asked.
QUESTION = ("INFO", "replication")


def is_master(answer: bytes) -> bool:
    """Return whether a node that answers so is the master."""
    return b"role:master" in answer.splitlines()
