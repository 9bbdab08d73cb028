"""The report of `gpu_check.py` as tables."""

from __future__ import annotations

from typing import Any

LEGENDS = {
    "copy": "a copy of 2 GiB on the device, bytes read and written",
    "epochs": "samples per second, median of 3 (lowest .. highest); the traffic model's bytes, with .. without caches",
    "baselines": "samples per second of the baseline; of the kernels, sorting included, on the same problem",
    "kernels": "time on the device by kernel, of an epoch of the first of the epochs above",
    "ranking": "users per second of torch: a product of matrices and topk; of the kernels",
    "first_call": "seconds until the first epoch of a process is done, with all that is compiled; and a second one",
    "ahead_of_time": "the same results as of Triton's compiler? Seconds of first calls",
}


def as_text(report: dict[str, Any]) -> str:
    """Return the report as tables."""
    lines = ["a rehearsal on the CPU: no figure means anything"] if report["dry"] else []
    lines.append(" | ".join(f"{name} {value}" for name, value in report["machine"].items()))
    copied = [row["bytes_per_second"] for row in report["parts"].get("copy", {}).get("rows", [])]
    for name, part in report["parts"].items():
        lines += ["", f"{name}: {part['status']}, {part['seconds']:.0f} s"]
        lines += [f"    ({LEGENDS[key]})" for key in LEGENDS if name.startswith(key) and part["rows"]]
        lines += [f"    {line}" for line in part["reason"].splitlines()]
        lines += [f"    {_line(row, copied[0] if copied else None)}" for row in part["rows"]]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, Any], copied: float | None) -> str:
    """A line of a table: `least .. moved` GB/s are the model's bytes with and without a perfect cache."""
    columns = [f"{row['name']:<54}"]
    if "failure" in row:
        return f"{columns[0]} failed\n" + "\n".join(f"        {line}" for line in row["failure"].splitlines()[-12:])
    if "not_run" in row:
        return f"{columns[0]} not run: {row['not_run']}"
    if "samples_per_second" in row:
        rate = row["samples_per_second"]
        columns.append(f"{rate['median'] / 1e6:>10.2f} M/s ({rate['low'] / 1e6:.2f} .. {rate['high'] / 1e6:.2f})")
    if "bytes_per_sample" in row:
        least, moved = (row["bytes_per_second"][name] / 1e9 for name in ("least", "moved"))
        columns.append(f"{least:.0f} .. {moved:.0f} GB/s")
        if copied:
            columns.append(f"{least * 1e9 / copied:.0%} .. {moved * 1e9 / copied:.0%} of a copy")
        if row["target"]:
            columns.append(f"target {row['target'] / 1e6:.0f} M/s")
    if "times_faster" in row:
        columns.append(f"the kernels {row['kernels']['median'] / 1e6:.2f} M/s, {row['times_faster']:.1f} times faster")
    known = ("samples_per_second", "bytes_per_sample", "bytes_per_second", "kernels", "times_faster", "target", "name")
    if len(columns) == 1:
        columns += [f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                    for key, value in row.items() if key not in known]  # fmt: skip
        columns += [f"{row['bytes_per_second'] / 1e9:.0f} GB/s"] if "bytes_per_second" in row else []
    return "  ".join(columns)
