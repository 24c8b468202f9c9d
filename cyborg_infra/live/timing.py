"""Every wait of `live`: how long for an answer, how long between two looks, when to give up. All in seconds.

Read as `timing.NAME` when it is waited, never imported by name: so that this module is the one place to change a wait.
What users choose (`--timeout`, `--drain-timeout`, `--lock-timeout`) is not here.
"""

from __future__ import annotations

# The connection.
CLOSE_TIMEOUT_SECONDS = 1.0  # a peer that is gone never ends TLS in order
IDENTITY_TIMEOUT_SECONDS = 1.0  # what a witness says is a nicety
ARRIVED_SECONDS = 0.01  # after a timeout; what came while this process was stopped is read within that
INTEREST_TIMEOUT_SECONDS = 1.0  # after which who does not answer is taken for there
SERVER_START_POLL_SECONDS = 0.002  # a server of ours is ready after about 30 ms

# Requests to the API.
CLUSTER_TIMEOUT_SECONDS = 10.0  # an election takes 4 to 9, and LIST waits 4 for what does not answer
RETRY_INTERVAL_SECONDS = 0.5  # between two attempts
# After the first fault: a leader is elected in 4 to 9, and a lost quorum noticed after 10.
ELECTION_TIMEOUT_SECONDS = 15.0
# For one stream or consumer: an election is over by then, and who waits wants to know.
RESOURCE_ELECTION_SECONDS = 12.0
UNKNOWN_STREAM_BACKOFF_SECONDS = (0.1, 0.3, 0.6)
"""Between tries to publish to a stream that may be new, behind a leaf node or another account's API."""
REMOVAL_BACKOFF_SECONDS = (0.1, 0.4, 1.5, 3.0, 5.0)
"""Between two tries to find what was deleted removed."""
STORE_BACKOFF_SECONDS = (0.05, 0.2)
"""Until a stream is created again that had no place for its store: what takes the place away lasts microseconds."""
PROPAGATION_BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
"""Until a consumer is tried again whose stream the cluster may not have heard of."""

CLAIMS_BACKOFF_SECONDS = (0.1, 0.4, 1.0, 2.0)
"""Until the claims that were pushed are read again, of a server that may still hold what was before."""

# What a cluster does not answer for.
UNREACHABLE_SEARCH_SECONDS = 10.0  # from the beginning of a listing: who elects a leader has one by then
UNREACHABLE_ANSWER_SECONDS = 2.0  # where nobody leads, what was asked is never answered
UNREACHABLE_POLL_SECONDS = 0.5  # between two looks

# Replicas.
REPLICATION_POLL_SECONDS = 0.1  # between two looks
REPLICATION_ANSWER_SECONDS = 2.0  # for one; while a stream changes hands nobody answers
WAIT_NOTICE_AFTER_SECONDS = 2.0  # after which somebody wonders what is going on
# Without any progress, however long the whole takes: a large stream copies for hours.
REPLICATION_STALL_SECONDS = 120.0
PEER_SILENT_AFTER_SECONDS = 10.0  # after which a cluster takes a server for gone; it may be back before
# Without any progress where what is missing is on a server that says nothing, or nowhere.
HOPELESS_TIMEOUT_SECONDS = 15.0
# Without any progress that an earlier change may take before the next one, which may be its cure.
EARLIER_CHANGE_TIMEOUT_SECONDS = 3.0
REREAD_BACKOFF_SECONDS = (0.5, 1.0, 2.0)
"""Until what does not hold in a cluster is read again."""

CONSISTENCY_BACKOFF_SECONDS = (0.5, 1.0, 1.5)
"""Before each further look at what seems wrong; in three of them a new leader has heard of all."""

# The lease.
LEASE_LIFETIME_SECONDS = 60  # an abandoned lease is free after that
LEASE_FRESH_SHARE = 1 / 6  # of a lifetime; so long after a renewal the holder writes without asking
# Of a lifetime; so long after a lease was taken away from its holder nobody has it.
LEASE_VACANCY_SHARE = 1 / 4
LEASE_MAX_RENEWALS = 20  # in a lifetime
LEASE_POLL_SECONDS = 0.5  # between two tries while waiting

# Consumers that are replaced.
CONSUMER_POLL_SECONDS = 0.1  # between two looks
# In which nobody finishes anything, after which work under way stays under way.
PROGRESS_TIMEOUT_SECONDS = 2.0
PAUSE_GRACE_SECONDS = 30.0  # that a pause outlives the drain, so that it ends by itself if we die
# Without a change after which a replicated consumer, paused, has told of all it has handed out.
STEADY_SECONDS = 1.0
# After which what a consumer knows is on disk; measured: up to 0.1 on busy cores (2.15.1).
CONSUMER_FLUSH_SECONDS = 0.3

# Streams that are copied, fenced or deleted.
# A fenced stream that has not grown for so long has taken in all that was under way.
COPY_POLL_SECONDS = 0.025
COPY_FLUSH_SECONDS = 0.5  # in which a copy stores what was under way
# A copy looks for its origin every 10, and waits 30 for an answer that was lost.
COPY_STALL_TIMEOUT_SECONDS = 45.0
# After which another server of a cluster looks for the origin, which takes less than one.
STEPDOWN_AFTER_SECONDS = 3.0
UNBLOCK_MIRROR_AFTER_SECONDS = 0.0  # without growth
UNBLOCK_SOURCES_AFTER_SECONDS = 12.0  # without growth: after a restart a copy looks for its origin every 10
# In which a fenced stream must not grow: publishes that were under way have landed.
FLUSH_DELAY_SECONDS = 0.05

# Checks of `verify`.
CHECK_WAIT_SECONDS = 3.0  # for what is expected at once; only a check that fails takes so long
CHECK_POLL_SECONDS = 0.05  # between two looks at what is about to happen
ARRIVAL_TIMEOUT_SECONDS = 10.0  # until what was published has to have come
AGENT_GRACE_SECONDS = 1.0  # for closing; and for the end of a pull request after it has expired
PUBLISHER_RETRY_SECONDS = 1.0  # after which a publisher without an answer tries again

# The monitor.
DEAD_LETTERS_GATHER_SECONDS = 0.5  # after the first dead letter: those that come with it are told with it
DEAD_LETTERS_PULL_SECONDS = 20.0  # that a request for dead letters waits at the server
QUIET_HOURS_POLL_SECONDS = 10.0  # between two looks whether quiet hours are over
MONITOR_RECONNECT_SECONDS = 1.0  # until the second try to connect; twice as long each time
MONITOR_RETRY_SECONDS = 30.0  # after a reading that failed, at most; and by so much a reading may be late
