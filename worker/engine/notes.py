"""What is written down while an edit is computed: seconds by phase, and warnings."""

from dataclasses import dataclass, field
from typing import TypeVar

from worker.editing.progress import Step, Steps, mapped, timed

Result = TypeVar("Result")


@dataclass(frozen=True)
class Notes:
    """Seconds by phase, and each warning once, in the order in which they came."""

    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def taken(self, steps: Steps[Result], last: str) -> Steps[Result]:
        """Drive `steps` and take notes; the seconds after the last step count as phase `last`."""
        return mapped(timed(steps, self.seconds, last), self._noted)

    def _noted(self, step: Step) -> Step:
        if step.warning is not None and step.warning not in self.warnings:
            self.warnings.append(step.warning)
        return step
