"""What a machine can do: measured here, or as a card's data sheet has it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import psutil
import torch


@dataclass(frozen=True)
class Machine:
    """Rates of a device: matrix products (FLOP/s) in a dtype, and reading of memory (bytes/s); its free memory in bytes."""

    device: torch.device
    flops: float
    bandwidth: float
    memory: int
    name: str = ""


_CUDA = torch.device("cuda")
CARDS = {
    "H200": Machine(_CUDA, 989.4e12, 4.8e12, 141 * 10**9, "H200"),
    "H100": Machine(_CUDA, 989.4e12, 3.35e12, 80 * 10**9, "H100"),
    "A100": Machine(_CUDA, 312e12, 2.039e12, 80 * 10**9, "A100"),
    "L40S": Machine(_CUDA, 362e12, 0.864e12, 48 * 10**9, "L40S"),
    "4090": Machine(_CUDA, 165.2e12, 1.008e12, 24 * 10**9, "4090"),
    "3090": Machine(_CUDA, 71e12, 0.936e12, 24 * 10**9, "3090"),
}
"""Peak dense bf16 products with fp32 sums, bandwidth and memory, as NVIDIA's data sheets (H200, H100 and A100 80 GB in SXM form, L40S)
and its Ada and Ampere GA102 white papers (RTX 4090, RTX 3090) give them; figures with sparsity halved."""


@lru_cache(maxsize=4)
def measure(device: torch.device, dtype: torch.dtype) -> Machine:
    """Measure the machine for about half a second, once per process, so before it holds a model of its own."""
    size = 8192 if device.type == "cuda" else 768
    left, right = torch.randn(size, size, device=device).to(dtype), torch.randn(size, size, device=device).to(dtype)
    flops = 2 * size**3 / _seconds(lambda: left @ right, device)
    block = torch.zeros(2**26 if device.type == "cuda" else 2**24, device=device)
    bandwidth = block.numel() * 4 / _seconds(lambda: block.sum(), device)
    cuda = device.type == "cuda"
    memory = torch.cuda.mem_get_info(device)[0] if cuda else psutil.virtual_memory().available
    return Machine(device, flops, bandwidth, memory, torch.cuda.get_device_name(device) if cuda else "")


def _seconds(function: Callable[[], object], device: torch.device) -> float:
    function()
    best = float("inf")
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        began = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return best
