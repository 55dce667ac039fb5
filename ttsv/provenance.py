"""What a result was made with: package versions, git state, hardware. Never environment variables or tokens."""

import importlib.metadata
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import torch

from ttsv import ranks

PACKAGES = (
    "ttsv",
    "torch",
    "transformers",
    "safetensors",
    "math-verify",
    "reasoning-gym",
    "datasets",
    "numpy",
    "pandas",
)


def collect(device: torch.device) -> dict[str, Any]:
    """Return a JSON-able description of the code, the machine and the command line, with secrets taken out."""
    return {
        "packages": {name: _version(name) for name in PACKAGES},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "git": git_state(),
        "command": redact(" ".join(sys.argv)),
        "processes": ranks.size(),
        "hardware": hardware(device),
    }


def hardware(device: torch.device) -> dict[str, Any]:
    """Return processor, memory and, on CUDA, the card."""
    found: dict[str, Any] = {
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device.type,
    }
    if device.type == "cuda":
        card = torch.cuda.get_device_properties(device)
        found["gpu"] = {
            "name": card.name,
            "memory_gib": round(card.total_memory / 2**30, 1),
            "count": torch.cuda.device_count(),
        }
    return found


def git_state() -> dict[str, Any]:
    """Return commit and cleanness of the checkout that this package runs from, or nulls outside one."""
    folder = Path(__file__).resolve().parent

    def git(*words: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *words], cwd=folder, capture_output=True, text=True, check=True, timeout=10
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    status = git("status", "--porcelain", "--", "ttsv", "conf")
    return {"commit": git("rev-parse", "HEAD"), "modified": None if status is None else bool(status)}


def redact(text: str) -> str:
    """Replace what looks like an access token or follows a key that names a secret."""
    text = re.sub(r"\b(hf_|sk-|ghp_|wandb_v1_)[A-Za-z0-9_-]{8,}", r"\1***", text)
    return re.sub(r"((?:token|secret|password|api_key)\s*[=:]\s*)\S+", r"\1***", text, flags=re.IGNORECASE)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()
