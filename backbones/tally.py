"""Adding up parameters and operations: one method per kind of layer, used by every cost rule."""

from __future__ import annotations

from dataclasses import dataclass, field

from backbones.language import Grid, NormConfig

CONVENTIONS = ("fvcore", "macs")


def convolved(grid: Grid, kernel: int, stride: int, padding: int) -> Grid:
    """Return the map after a convolution."""
    height, width = ((n + 2 * padding - kernel) // stride + 1 for n in grid)
    return height, width


@dataclass(frozen=True)
class Cost:
    """Parameters and operations of one image.

    Units: flops in single operations of `convention`; by_component and by_stage map a name to
    (params, flops) and sum to the totals.
    """

    params: int
    flops: int
    by_component: dict[str, tuple[int, int]]
    by_stage: dict[str, tuple[int, int]]
    convention: str
    image_size: tuple[int, int]


@dataclass
class Tally:
    """Adds up a network.

    convention: see `backbones.counting`. times: how many equal blocks the next entries stand for.
    """

    convention: str
    times: int = 1
    stage: str = ""
    components: dict[str, list[int]] = field(default_factory=dict)
    stages: dict[str, list[int]] = field(default_factory=dict)

    def add(self, name: str, params: int = 0, flops: int = 0) -> None:
        """Add plain numbers under a component's name."""
        for table, key in ((self.components, name), (self.stages, self.stage)):
            entry = table.setdefault(key, [0, 0])
            entry[0] += params * self.times
            entry[1] += flops * self.times

    def linear(self, name: str, inputs: int, outputs: int, tokens: int, bias: bool = True) -> None:
        """Add a linear layer applied to every token."""
        self.add(name, inputs * outputs + outputs * bias, inputs * outputs * tokens)

    def conv(self, name: str, weight: int, bias: int, positions: int) -> None:
        """Add a convolution with so many weights and biases, evaluated at so many positions."""
        self.add(name, weight + bias, weight * positions)

    def norm(self, name: str, config: NormConfig | None, width: int, tokens: int) -> None:
        """Add a LayerNorm or RMSNorm over the channels of every token."""
        if config is None:
            return
        if config.kind == "rmsnorm":
            self.add(name, width)
        else:
            self.add(name, 2 * width, 5 * width * tokens if self.convention == "fvcore" else 0)

    def bare_norm(self, name: str, width: int, tokens: int) -> None:
        """Add a LayerNorm without weights."""
        self.add(name, 0, 4 * width * tokens if self.convention == "fvcore" else 0)

    def batch_norm(self, name: str, width: int, positions: int) -> None:
        """Add a BatchNorm2d, in evaluation."""
        self.add(name, 2 * width, 2 * width * positions if self.convention == "fvcore" else 0)

    def pooled(self, name: str, elements: int) -> None:
        """Add an adaptive pooling or nearest upsampling that touches so many elements."""
        self.add(name, 0, elements if self.convention == "fvcore" else 0)

    def channel_attention(self, name: str, width: int, tokens: int, uses: int) -> None:
        """Add one module that gates `uses` maps of so many tokens each."""
        reduced = width // 8
        self.add(name, 2 * width)
        norms = 5 * width * tokens * uses if self.convention == "fvcore" else 0
        self.add(name, 0, norms)
        self.linear(name, width, reduced, uses)
        self.linear(name, reduced, width, uses)
