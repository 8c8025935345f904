"""Graphics cards, by what their maker's data sheets say."""

from typing import NamedTuple


class Card(NamedTuple):
    """A card; its rate is that of dense matrix products with sums in float32."""

    name: str
    dtype: str  # of mixed precision
    rate: float  # operations a second in that type
    bandwidth: float  # bytes a second
    memory: float  # bytes
    source: str

    def __str__(self) -> str:
        """Returns text such as "NVIDIA T4 (65 TFLOP/s in float16, 0.32 TB/s, 16 GB: NVIDIA T4 data sheet)"."""
        rate, bandwidth = f"{self.rate / 1e12:.0f} TFLOP/s in {self.dtype}", f"{self.bandwidth / 1e12:.2f} TB/s"
        return f"{self.name} ({rate}, {bandwidth}, {self.memory / 1e9:.0f} GB: {self.source})"


CARDS = {
    "H100": Card("NVIDIA H100 SXM", "bfloat16", 989e12, 3.35e12, 80e9, "NVIDIA H100 data sheet"),
    "A100": Card("NVIDIA A100 SXM 80 GB", "bfloat16", 312e12, 2.039e12, 80e9, "NVIDIA A100 data sheet"),
    "4090": Card("NVIDIA RTX 4090", "bfloat16", 165e12, 1.008e12, 24e9, "NVIDIA Ada architecture white paper"),
    "T4": Card("NVIDIA T4", "float16", 65e12, 0.32e12, 16e9, "NVIDIA T4 data sheet"),
}
