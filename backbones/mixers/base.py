"""What a token mixer states of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, SerializeAsAny

from backbones.language import Grid, Model
from backbones.registry import MIXERS, imported
from backbones.tally import Tally


class MixerConfig(Model, ABC):
    """How the tokens of a block exchange information.

    takes_class_token: whether a token that is no part of the map may stand among them.
    scan_state: N of its selective scan, 0 without one. module: what `build` imports.
    """

    kind: str
    module: ClassVar[str] = ""

    @abstractmethod
    def cost(self, tally: Tally, width: int, grid: Grid, extra: int) -> None:
        """Count the module on a map of this size, and `extra` tokens that are no part of it."""

    @abstractmethod
    def canonical(
        self, width: int, shift: tuple[int, int] | None = None, class_token: bool = False
    ) -> dict[str, Any]:
        """Return plain data that is equal for mixers of the same function."""

    def build(self, width: int, **place: Any) -> Any:
        """Return the module: (tokens (B, L, C), grid) -> (B, L, C).

        place: shift (signs along (H, W)), class_token, depth (blocks of the network).
        """
        return imported(self.module)(self, width, **place)

    def check_width(self, width: int) -> None:
        """Raise ValueError for a block width that the mixer cannot work at."""

    @property
    def width_step(self) -> int:
        """What widths must be multiples of."""
        return 1

    def at_step(self, step: int) -> MixerConfig:
        """Return what stands for this mixer where widths are multiples of step: as many FLOPs."""
        return self

    @property
    def takes_class_token(self) -> bool:
        """Whether tokens that are no part of the map may be mixed too."""
        return False

    def turn(self, index: int, count: int) -> tuple[int, int] | None:
        """Return the (H, W) signs of the cyclic shift of one block, or None.

        index: its place in the stage. count: blocks of the network before it.
        """
        return None

    @property
    def scan_state(self) -> int:
        """N of the selective scan; 0 without one."""
        return 0

    def adapts_to(self, side: int) -> tuple[MixerConfig, list[str]]:
        """Return what stands for this mixer on a map of side x side tokens, with notes."""
        return self, []

    def with_routes(self, routes: tuple[str, ...]) -> MixerConfig:
        """Return the mixer with a stage's routes; ValueError where they have no meaning."""
        return self

    def routes_key(self, routes: tuple[str, ...], grid: Grid) -> tuple[int, ...]:
        """Return what of a stage's routes decides the cost."""
        return ()


Mixer = Annotated[SerializeAsAny[MixerConfig], BeforeValidator(MIXERS.read), MIXERS]
