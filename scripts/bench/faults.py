"""What survives: faults injected, checkpoints that were sound afterwards, steps made again.

    python scripts/bench/faults.py            # the whole report, some minutes on two cores
    python scripts/bench/faults.py --quick    # a sample of it

Checkpoint files: processes are killed at random moments while they save without a pause; saves run into
a full disk (a small tmpfs; a limit on the size of files where mounting is not allowed); bits are
flipped and files cut off at random places. Runs: every task is hit by SIGKILL, SIGTERM and SIGINT at
random places and resumed; weights and optimizer state must end bitwise as without. Exit code 1 if
anything was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kexue_pl.run.checkpoint_io import (
    CheckpointCorruptError,
    VerifiedCheckpointIO,
    newest_sound,
    read,
    verify,
)
from kexue_pl.testing.survival import CASES, MORE, draw_faults, final_state, run, survive

ALL = MORE | CASES
QUICK = ("gradnorm, parameters, EG", "matching, 2 ranks")


def last_step(folder: Path) -> int:
    """Step of the newest sound checkpoint; -1 where there is none."""
    found, _ = newest_sound(folder)
    return -1 if found is None else int(read(found)["global_step"])


def saver(folder: Path, content: dict[str, Any], told: int) -> None:
    """Save last.ckpt again and again, and tell after each one."""
    for step in itertools.count(1):
        VerifiedCheckpointIO().save_checkpoint(
            content | {"global_step": step}, folder / "last.ckpt"
        )
        os.write(told, b".")


def kill_while_saving(folder: Path, content: dict[str, Any], draw: random.Random) -> bool:
    """True if no save that was told as done is lost when the saver is killed."""
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            saver(folder, content, told)
        os._exit(1)
    os.close(told)
    done = len(os.read(heard, 1))
    time.sleep(draw.uniform(0, 0.03))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with os.fdopen(heard, "rb") as pipe:
        done += len(pipe.read())
    return last_step(folder) >= done >= 1


@contextlib.contextmanager
def tmpfs(folder: Path, size: int) -> Iterator[bool]:
    """A file system of `size` bytes at `folder`; False where it cannot be mounted."""
    words = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = subprocess.run(words, capture_output=True).returncode == 0
    yield mounted
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(folder: Path, content: dict[str, Any], draw: random.Random) -> bool:
    """True if a save into a disk that is full at a random byte fails and leaves the old file."""
    path, io = folder / "last.ckpt", VerifiedCheckpointIO()
    io.save_checkpoint(content | {"global_step": 1}, path)
    room = draw.randrange(path.stat().st_size)
    child = os.fork()
    if child == 0:
        code = 0
        try:
            leave(folder, room)
            io.save_checkpoint(content | {"global_step": 2}, path)
        except OSError:
            code = 1
        os._exit(code)
    failed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    (folder / "filler").unlink(missing_ok=True)
    left = [p.name for p in folder.glob(".*.tmp-*")]
    return failed and last_step(folder) == 1 and not left


def leave(folder: Path, room: int) -> None:
    """Fill the disk but for `room` bytes, or let no file of this process grow beyond them."""
    if os.path.ismount(folder):
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        with open(folder / "filler", "wb") as file:
            file.write(b"x" * max(0, free - room))
        return
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def damaged(path: Path, whole: bytes, draw: random.Random, how: str) -> bool:
    """True if a flipped bit, or a cut, is found."""
    place = draw.randrange(len(whole))
    content = bytearray(whole)
    if how == "flip":
        content[place] ^= 1 << draw.randrange(8)
    else:
        del content[place:]
    path.write_bytes(bytes(content))
    try:
        verify(path)
    except CheckpointCorruptError:
        return True
    return False


def files(root: Path, args: argparse.Namespace) -> bool:
    """Print what became of checkpoint files; True if all is well."""
    draw = random.Random(args.seed)
    assert run(ALL["matching"], root / "whole")[0].code == 0
    content = read(root / "whole" / "checkpoints" / "last.ckpt")
    whole = (root / "whole" / "checkpoints" / "last.ckpt").read_bytes()
    one = root / "one.ckpt"
    disk = root / "disk"
    disk.mkdir()

    def killed() -> bool:
        with tempfile.TemporaryDirectory(dir=root) as folder:
            return kill_while_saving(Path(folder), content, draw)

    print(f"\nCheckpoint files of {len(whole) / 1e3:.0f} kB\n")
    print("| fault | injected | survived or found |\n|---|---|---|")
    well = tell("SIGKILL while saving", args.kills, killed)
    with tmpfs(disk, 4 * len(whole)) as mounted:
        name = "disk full" if mounted else "file size limit (tmpfs not allowed here)"
        well &= tell(name, args.full, lambda: full_disk(disk, content, draw))
    well &= tell("flipped bit", args.flips, lambda: damaged(one, whole, draw, "flip"))
    well &= tell("cut off", args.flips, lambda: damaged(one, whole, draw, "cut"))
    return well


def tell(name: str, times: int, trial: Callable[[], bool]) -> bool:
    """Run and count a trial; print its row."""
    good = sum(trial() for _ in range(times))
    print(f"| {name} | {times} | {good}/{times} |", flush=True)
    return good == times


def runs(root: Path, names: list[str], count: int) -> bool:
    """Print what became of runs hit `count` times each; True if every one ended bitwise equal."""
    print("\nRuns, a checkpoint every 3 optimizer steps\n")
    print("| run | ranks | faults (batch) | sound | steps made again | bitwise equal |")
    print("|---|---|---|---|---|---|")
    injected = sound = equal = 0
    lost: list[int] = []
    for number, name in enumerate(names):
        folder = root / f"run{number}"
        folder.mkdir()
        case = ALL[name]
        done = run(case, folder / "whole")
        assert {one.code for one in done} == {0}, done[0].err
        loops = read(folder / "whole" / "checkpoints" / "last.ckpt")["loops"]["fit_loop"]
        batches = loops["epoch_loop.batch_progress"]["total"]["completed"]
        faults = draw_faults(name, batches, case.ranks, count)
        seen = survive(case, folder, faults, final_state(folder / "whole"))
        injected, sound = injected + len(seen.faults), sound + seen.sound
        lost, equal = lost + seen.lost, equal + seen.equal
        shown = ", ".join(f"{f.number} {f.where} ({f.batch})" for f in seen.faults)
        again = ", ".join(map(str, seen.lost))
        print(
            f"| {name} | {case.ranks} | {shown} | {seen.sound}/{len(seen.faults)} | {again} | "
            f"{'yes' if seen.equal else 'NO'} |",
            flush=True,
        )
    print(
        f"\nFaults injected {injected}, survived {sound}/{injected}; steps made again: mean "
        f"{sum(lost) / max(1, len(lost)):.2f}, most {max(lost, default=0)}; bitwise equal "
        f"{equal}/{len(names)}"
    )
    return sound == injected and equal == len(names)


def main() -> int:
    """Print the report; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sample")
    parser.add_argument("--kills", type=int, help="processes killed while saving (100)")
    parser.add_argument("--full", type=int, help="saves into a full disk (100)")
    parser.add_argument("--flips", type=int, help="flipped bits, and cuts (200)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name, usual, quick in (("kills", 100, 5), ("full", 100, 5), ("flips", 200, 20)):
        if getattr(args, name) is None:
            setattr(args, name, quick if args.quick else usual)
    with tempfile.TemporaryDirectory() as folder:
        well = files(Path(folder), args)
        names, count = (list(QUICK), 1) if args.quick else (list(ALL), 3)
        well &= runs(Path(folder), names, count)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
