"""Cores, memory and accelerators of a component's container."""

from typing import Annotated

from pydantic import Field

from keras_moe.orchestration.configuration._section import Section


class Resources(Section):
    """What the container of one component gets.

    Example:
    >>> keras_moe.orchestration.Resources(memory_gib=32).cpu
    4.0

    Attributes:
        cpu: Cores.
        memory_gib: Memory in GiB.
        accelerator: Kind, such as `"NVIDIA_TESLA_T4"`; `None` for none.
        accelerator_count: How many of them.
    """

    cpu: Annotated[float, Field(gt=0.0)] = 4.0
    memory_gib: Annotated[float, Field(gt=0.0)] = 16.0
    accelerator: str | None = None
    accelerator_count: Annotated[int, Field(ge=1)] = 1
