"""What became of one kind of fault."""

from dataclasses import dataclass, field


@dataclass
class Row:
    """A line of the table.

    tried     faults made
    resumed   went on, and ended bit for bit where the undisturbed run does
    detected  told of: an error or a warning that names the file or folder
    lost      neither, or an end that is another; `losses` says how
    """

    backend: str
    fault: str
    tried: int = 0
    resumed: int = 0
    detected: int = 0
    losses: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return len(self.losses)

    def cells(self) -> list[str]:
        """For the table; what a kind of fault cannot be is a dash."""
        told = [str(count or "-") for count in (self.resumed, self.detected)]
        return [self.backend, self.fault, str(self.tried), *told, str(self.lost)]


HEADER = ("backend", "fault", "tried", "resumed", "detected", "lost")
