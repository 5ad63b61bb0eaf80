"""Which rows and groups the native kernel is compiled for: the processor's, or those one asks for.

A process has one `Layout` (``lanes.LAYOUT``), chosen when its kernels are imported: by the
processor's vector registers, or by the environment variable ``QUANTUM_HYBRID_VECTORS``, such as
``QUANTUM_HYBRID_VECTORS=64x4``. Any layout runs on any processor, since LLVM cuts a vector into
what registers there are; one that the processor has none for is only slower. So what a machine
computes can be computed, and tested, on any other.
"""

import platform
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = "QUANTUM_HYBRID_VECTORS"


class Layout(NamedTuple):
    """Written as ``32x3``."""

    row_bytes: int
    """Of a row: what one vector register holds."""
    max_group: int
    """Qubits in a group: with ``2**max_group`` rows in half of the registers the rest holds what
    they are multiplied by. 16 rows in 16 registers would go to and fro to memory; a pass over three
    qubits then takes longer than its share of one over four (docs/log.md)."""

    def __str__(self) -> str:
        return f"{self.row_bytes}x{self.max_group}"


LAYOUTS = SSE, NEON, AVX2, AVX512 = Layout(16, 3), Layout(16, 4), Layout(32, 3), Layout(64, 4)
"""One for each kind of registers: 16 of 16 bytes, 32 of 16, 16 of 32, 32 of 64."""


def suited(features: Mapping[str, bool], machine: str) -> Layout:
    """The layout for a processor of these features, as LLVM names them, in a machine so called."""
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return NEON if machine.lower() in ("arm64", "aarch64") else SSE


def chosen(environment: Mapping[str, str]) -> Layout:
    """The layout that the environment asks for; if it asks for none, this processor's.

    Raises:
        ValueError: as `named`.
    """
    layout = named(environment)
    if layout is not None:
        return layout
    import llvmlite.binding  # a library of more than 100 MB, which the command line need not load

    return suited(llvmlite.binding.get_host_cpu_features(), platform.machine())


def named(environment: Mapping[str, str]) -> Layout | None:
    """The layout that the environment asks for.

    Raises:
        ValueError: it asks for one that does not exist.
    """
    name = environment.get(VARIABLE)
    if not name:
        return None
    by_name = {str(layout): layout for layout in LAYOUTS}
    if name not in by_name:
        raise ValueError(
            f"{VARIABLE}={name} in the environment: must be one of {', '.join(by_name)} (bytes in "
            "a row x qubits in a group), or unset for what suits the processor"
        )
    return by_name[name]
