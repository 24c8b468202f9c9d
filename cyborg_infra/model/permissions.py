"""What a user may publish, as the server tells it: the rules of allow and deny."""

from __future__ import annotations

from collections.abc import Sequence

from cyborg_infra.model.subjects import SubjectIndex


class Permissions:
    """The subjects that a user may and may not publish to. Without `allow` everything is allowed; a denial wins."""

    def __init__(self, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> None:
        self.are_limited = bool(allow or deny)
        self._allow = SubjectIndex((pattern, "") for pattern in allow or (">",))
        self._deny = SubjectIndex((pattern, "") for pattern in deny)

    def may_publish(self, subject: str) -> bool:
        """Return whether the user may publish to this subject, which has no wildcards."""
        return self._allow.covers(subject) and not self._deny.covers(subject)
