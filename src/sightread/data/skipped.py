"""Bad input is skipped, counted and listed, and becomes an error where there is too much of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sightread.errors import DataError

LISTED = 20


class Skipped:
    """What was left out, why and where."""

    def __init__(self) -> None:
        self.count = 0
        self.reasons: dict[str, list[str]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)

    def add(self, reason: str, where: str) -> None:
        """Note one skipped item; the first 20 of each reason are listed."""
        self.count += 1
        self._counts[reason] += 1
        if len(self.reasons[reason]) < LISTED:
            self.reasons[reason].append(where)

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> Skipped:
        """What `report()` was written from."""
        skipped = cls()
        for reason, found in report.items():
            skipped.count += found["count"]
            skipped._counts[reason] = found["count"]
            skipped.reasons[reason] = list(found["first"])
        return skipped

    def merge(self, other: Skipped) -> None:
        """Take over another's items."""
        self.count += other.count
        for reason, places in other.reasons.items():
            self._counts[reason] += other._counts[reason]
            self.reasons[reason] = (self.reasons[reason] + places)[:LISTED]

    def check(self, total: int, max_share: float, what: str, remedy: str = "mend them or raise --max-skipped") -> None:
        """Raise `DataError`, with the remedy, if more than `max_share` of `total` items were skipped."""
        if self.count and self.count > max_share * total:
            raise DataError(
                f"{self.count} of {total} {what} are bad, more than the allowed share of {max_share:g}: "
                f"{self.summary()}; {remedy}"
            )

    def summary(self) -> str:
        """One line: each reason with its count and the first place."""
        return "; ".join(
            f"{reason}: {self._counts[reason]} (first: {where[0]})" for reason, where in self.reasons.items()
        )

    def report(self) -> dict[str, Any]:
        """For manifests: counts and places by reason."""
        return {reason: {"count": self._counts[reason], "first": where} for reason, where in self.reasons.items()}
