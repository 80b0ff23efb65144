"""Eight articles of the Kexue blog (科学空间, kexue.fm) as parts for PyTorch Lightning and Hydra.

Nothing heavy is imported here; import the part you need, for instance ``kexue_pl.losses``.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
