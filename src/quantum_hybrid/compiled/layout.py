"""The layout of the native kernel: bytes of a row and qubits of a group.

A process has one `Layout` (``vectors.LAYOUT``), fixed when its kernels are imported: the one that
suits the processor's vector registers, or the one that the environment variable
``QUANTUM_HYBRID_VECTORS`` names, such as ``QUANTUM_HYBRID_VECTORS=64x4``. Every layout runs on
every processor, since LLVM splits a vector into the registers that exist; one that does not suit is
only slower. So the results of any machine can be reproduced, and tested, on any other.
"""

import platform
from collections.abc import Mapping
from typing import NamedTuple

VARIABLE = "QUANTUM_HYBRID_VECTORS"
VECTOR_ROWS = 16
"""Rows of a batch that a vector of the sweeps over the vocabulary holds, one a lane, in any layout.
Chunks of rows are padded to a multiple of it."""


class Layout(NamedTuple):
    """Written as ``32x3``."""

    row_bytes: int
    """Bytes of a row, which fills one vector register."""
    max_group: int
    """Most qubits in a group. Its ``2**max_group`` rows take half of the registers; the other half
    holds the factors. 16 rows in 16 registers would be spilled to memory (docs/log.md)."""

    def __str__(self) -> str:
        return f"{self.row_bytes}x{self.max_group}"


LAYOUTS = SSE, NEON, AVX2, AVX512 = Layout(16, 3), Layout(16, 4), Layout(32, 3), Layout(64, 4)
"""One layout for each kind of register file: 16 registers of 16 bytes, 32 of 16, 16 of 32, 32 of
64."""


def suited(features: Mapping[str, bool], machine: str) -> Layout:
    """The layout that suits a processor.

    features: as LLVM names them. machine: as `platform.machine` names it.
    """
    if features.get("avx512f"):
        return AVX512
    if features.get("avx2") and features.get("fma"):
        return AVX2
    return NEON if machine.lower() in ("arm64", "aarch64") else SSE


def chosen(environment: Mapping[str, str]) -> Layout:
    """The layout that the environment names; if it names none, the one that suits this processor.

    Raises:
        ValueError: as `named`.
    """
    layout = named(environment)
    if layout is not None:
        return layout
    import llvmlite.binding  # more than 100 MB, which the command line does not load

    return suited(llvmlite.binding.get_host_cpu_features(), platform.machine())


def named(environment: Mapping[str, str]) -> Layout | None:
    """The layout that the environment names; None if it names none.

    Raises:
        ValueError: it names a layout that does not exist.
    """
    name = environment.get(VARIABLE)
    if not name:
        return None
    by_name = {str(layout): layout for layout in LAYOUTS}
    if name not in by_name:
        raise ValueError(
            f"{VARIABLE}={name} in the environment: must be one of {', '.join(by_name)} (bytes in "
            "a row x qubits in a group), or unset for the layout that suits the processor"
        )
    return by_name[name]
