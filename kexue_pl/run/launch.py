"""Starts the processes of a run through torchrun's own launcher, from the configuration as composed.

Hydra composes once, in the parent. The ranks read the frozen file, so that no sweeper and no second
composition can give them other settings; they compare its digest before anything is trained.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kexue_pl.run.errors import ConfigError, Interrupted, RunError

__all__ = [
    "ConfigMismatchError",
    "check_same_everywhere",
    "end_with_parent",
    "external_rank",
    "launch",
    "processes",
    "take_signals",
]

RANK_VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "GROUP_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PL_GLOBAL_SEED",
    "PL_SEED_WORKERS",
)


class ConfigMismatchError(RunError):
    """Ranks of one run hold different settings."""


def external_rank() -> int | None:
    """The rank given by torchrun or SLURM, if one of them started this process; else None.

    SLURM's variables are put into torchrun's names, so that one worker serves both.
    """
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        return int(env["RANK"])
    if int(env.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in env and "SLURM_JOB_ID" in env:
        nodes = env.get("SLURM_NODELIST", "localhost").split(",")[0].replace("[", "").split("-")
        env.setdefault("MASTER_ADDR", env.get("SLURM_LAUNCH_NODE_IPADDR") or "-".join(nodes[:2]))
        env.setdefault("MASTER_PORT", str(20_000 + int(env["SLURM_JOB_ID"]) % 20_000))
        env["RANK"], env["WORLD_SIZE"] = env["SLURM_PROCID"], env["SLURM_NTASKS"]
        env["LOCAL_RANK"] = env.get("SLURM_LOCALID", "0")
        env["LOCAL_WORLD_SIZE"] = env.get("SLURM_NTASKS_PER_NODE", env["SLURM_NTASKS"])
        return int(env["RANK"])
    return None


def processes(accelerator: dict[str, Any]) -> int:
    """Processes on this node that the accelerator settings ask for.

    >>> processes({"accelerator": "cpu", "devices": 2, "strategy": "ddp"})
    2
    """
    devices = accelerator["devices"]
    if isinstance(devices, str) and devices.lstrip("-").isdigit():
        devices = int(devices)
    if isinstance(devices, list):
        return len(devices)
    if devices in (-1, "auto", "-1"):
        if accelerator["accelerator"] == "cpu":
            return 1
        import torch

        count = torch.cuda.device_count()
        if accelerator["accelerator"] == "gpu" and not count:
            raise ConfigError(
                ["accelerator: no CUDA device here; accelerator=cpu or ddp_cpu run anywhere"]
            )
        return max(1, count) if accelerator["strategy"] != "auto" else 1
    if not isinstance(devices, int) or devices < 1:
        raise ConfigError([f"accelerator.devices={devices}: a number of processes, or -1 for all"])
    return devices


def launch(config_file: Path, ranks: int) -> int:
    """Run `ranks` workers on this node and wait; the exit code of the group.

    Raises:
        Interrupted: this process was asked to stop; the ranks were told and have ended.
    """
    group = start_group(config_file, ranks)
    asked = 0

    def forward(number: int, frame: Any) -> None:
        nonlocal asked
        asked = number
        group.send_signal(signal.SIGTERM)

    old = take_signals(forward)
    try:
        code = group.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        if group.poll() is None:
            group.kill()
    if asked:
        raise Interrupted(asked)
    return code


def take_signals(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Set a handler for the signals that ask a run to stop; those that were there, by number.

    Clusters announce the end of a job's time with SIGUSR1 or SIGUSR2.
    """
    names = ("SIGTERM", "SIGINT", "SIGUSR1", "SIGUSR2")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    try:
        return {number: signal.signal(number, handler) for number in numbers}
    except ValueError:
        return {}  # not in the main thread: the host program keeps its handlers


def start_group(config_file: Path, ranks: int) -> subprocess.Popen[bytes]:
    """Start torchrun's launcher with `ranks` workers that read `config_file`."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes", "1"]
    command += ["--nproc-per-node", str(ranks), "-m", "kexue_pl.run.worker", str(config_file)]
    env = {name: value for name, value in os.environ.items() if name not in RANK_VARIABLES}
    env.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // ranks)))
    env["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).resolve().parents[2]), *filter(None, [env.get("PYTHONPATH")])]
    )
    return subprocess.Popen(
        command,
        env=env,
        stderr=_quiet(config_file),
        start_new_session=True,
        preexec_fn=end_with_parent(),
    )


def end_with_parent() -> Callable[[], Any] | None:
    """For `preexec_fn`: on Linux the child gets SIGTERM when this process is killed; none goes on unseen."""
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    control, parent_dies = ctypes.CDLL(None).prctl, 1
    return lambda: control(parent_dies, signal.SIGTERM)


def _quiet(config_file: Path) -> Any:
    """The launcher's own lines go to a file; what ranks have to say is in train.log and summary.json."""
    return open(config_file.with_name("launcher.log"), "a", encoding="utf-8")


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of a nested dict.

    >>> flatten({"a": {"b": 1}})
    {'a.b': 1}
    """
    if isinstance(node, dict):
        return {
            name: leaf
            for key, value in node.items()
            for name, leaf in flatten(value, f"{prefix}{key}.").items()
        }
    return {prefix[:-1]: node}


def check_same_everywhere(config: dict[str, Any]) -> None:
    """Raise on every rank if any two ranks hold different settings; the keys are named."""
    from kexue_pl.distributed import all_gather_objects

    all_flat = [flatten(c) for c in all_gather_objects(config)]
    keys = sorted({key for flat in all_flat for key in flat})
    wrong = [key for key in keys if len({repr(flat.get(key)) for flat in all_flat}) > 1]
    if wrong:
        seen = "; ".join(f"{key}: {[flat.get(key) for flat in all_flat]}" for key in wrong[:3])
        raise ConfigMismatchError(f"ranks hold different settings: {seen}")
