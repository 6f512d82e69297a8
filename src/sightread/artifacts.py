"""Stages meet through folders on disk, and each says what it is.

A folder is begun with `run.json` (kind, config, digests of its inputs), filled, and finished with
`manifest.json`, which is written last: a folder with a manifest is whole, one without is unfinished.
So a run can be resumed only with the settings and inputs it was begun with, and nothing half-written is ever loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sightread.errors import ArtifactError
from sightread.origin import made_with

FORMAT = 1
MANIFEST, RUN = "manifest.json", "run.json"
CHECKPOINTS = "checkpoints"  # what a run keeps there to be resumed goes when it is finished
_ASIDE = ".tmp"
_SAME_BITS = ("sightread", "torch", "transformers", "tokenizers", "processor", "instructions")
_NEVER_DELETE = "no sightread folder (it has neither run.json nor manifest.json)"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    data = content.encode() if isinstance(content, str) else content
    aside = path.with_name(f".{path.name}.{os.getpid()}{_ASIDE}")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Where a file is written that ends a long work: a full disk is told, and what to do."""
    try:
        yield
    except Exception as error:  # tokenizers' own is no OSError
        reason = getattr(error, "strerror", None) or error
        raise ArtifactError(
            f"cannot write {path}: {reason}; what is written is kept: mend that, and run again with --resume"
        ) from error


def digest(*parts: str | bytes) -> str:
    """SHA-256 of the parts, length-prefixed so that their borders count."""
    sha = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogateescape") if isinstance(part, str) else part
        sha.update(len(data).to_bytes(8, "little") + data)
    return sha.hexdigest()


def digest_bytes(data: bytes) -> str:
    """SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_folder(path: Path) -> str:
    """Digest of every file below a folder, names and bytes, in sorted order; manifests excluded, as they hold times."""
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name not in {MANIFEST, RUN})
    return digest(*(part for p in files for part in (p.relative_to(path).as_posix(), digest_file(p))))


class Artifact:
    """A folder with a manifest.

    Attributes:
        path: The folder.
        kind: What it holds: "bank", "vokenizer", "voken-corpus", "encoder", "scores", …
        config: The settings it was made with, JSON values.
        inputs: Digests of what it was made from, by name.
        report: What its making found: counts, skipped items, seconds. Empty until finished.
        made_with: What finished it, see `origin`; empty if that is not known.
        finished: Whether the manifest is there.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], finished: bool) -> None:
        self.path = path
        self.kind: str = header["kind"]
        self.config: dict[str, Any] = header["config"]
        self.inputs: dict[str, str] = header["inputs"]
        self.report: dict[str, Any] = header.get("report", {})
        self.made_with: dict[str, str] = header.get("made_with", {})
        self.finished = finished

    @classmethod
    def begin(
        cls,
        out: Path | str,
        kind: str,
        *,
        config: Any = None,
        inputs: Mapping[str, str] | None = None,
        overwrite: bool = False,
        resume: bool = False,
        free: Collection[str] = (),
    ) -> Artifact:
        """Begin a folder, or take up an unfinished one.

        Args:
            out: The folder.
            kind: What it will hold.
            config: A dataclass or mapping of JSON values.
            inputs: Digests of the inputs, by name.
            overwrite: Delete what a former run left there.
            resume: Go on with a former run; returns it `finished` if there is nothing left to do.
            free: Settings that may be others in a former run, as all that is made by them has a folder of its own; it
                is then taken up as one that is not finished.

        Raises:
            ArtifactError: If the folder holds a result and neither flag is given, if it was begun with other
                settings or inputs, if it is not ours to delete, or if it cannot be written.
        """
        if overwrite and resume:
            raise ArtifactError("--overwrite begins again and --resume goes on: give one of them")
        out = Path(out)
        plain = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else dict(config or {})  # type: ignore[arg-type]
        header = {"kind": kind, "format": FORMAT, "config": plain, "inputs": dict(inputs or {})}
        header = json.loads(json.dumps(header, default=str))  # as it will be read back
        try:
            out.mkdir(parents=True, exist_ok=True)
            _remove_torn(out, RUN)
            occupied = any(out.iterdir())
            if occupied and overwrite:
                _delete_contents(out, kind)
            elif occupied and resume:
                return _take_up(out, header, free)
            elif occupied:
                raise ArtifactError(
                    f"{out} already holds {_describe(out)}; give --resume to go on, --overwrite to replace it, "
                    "or another --out"
                )
            write_atomic(out / RUN, json.dumps(header | {"begun_with": made_with()}, indent=1))
        except OSError as error:
            raise ArtifactError(f"cannot write to {out}: {error.strerror or error}; choose another --out") from error
        return cls(out, header, finished=False)

    @classmethod
    def begin_cache(cls, out: Path | str, kind: str, inputs: Mapping[str, str]) -> Artifact:
        """Take up a cache, begin a new one, or replace one of other inputs; never a folder of another kind."""
        out = Path(out)
        headers = [_read_header(out / name) for name in (MANIFEST, RUN) if (out / name).is_file()]
        stale = bool(headers) and headers[0]["kind"] == kind and headers[0]["inputs"] != inputs
        return cls.begin(out, kind, inputs=inputs, overwrite=stale, resume=not stale)

    @classmethod
    def open(cls, path: Path | str, kind: str) -> Artifact:
        """Open a finished folder of the given kind.

        Raises:
            ArtifactError: If it does not exist, is unfinished, of another kind, or of a newer format.
        """
        path = Path(path)
        if not path.is_dir():
            raise ArtifactError(f"no folder {path}; expected {_a(kind)} written by sightread")
        if not (path / MANIFEST).is_file():
            state = "unfinished: run its command again with --resume" if (path / RUN).is_file() else _NEVER_DELETE
            raise ArtifactError(f"{path} is no finished {kind}: {state}")
        header = _read_header(path / MANIFEST)
        if header["kind"] != kind:
            raise ArtifactError(f"{path} is {_a(header['kind'])}, expected {_a(kind)}")
        if header["format"] > FORMAT:
            raise ArtifactError(f"{path} has format {header['format']}, this version reads up to {FORMAT}; upgrade")
        return cls(path, header, finished=True)

    @classmethod
    def at(cls, path: Path) -> Artifact:
        """What lies in a folder, of whatever kind, finished or not; raises `ArtifactError` if there is nothing."""
        for name in (MANIFEST, RUN):
            if (path / name).is_file():
                return cls(path, _read_header(path / name), finished=name == MANIFEST)
        raise ArtifactError(f"{path} is {_NEVER_DELETE}")

    def reopen(self) -> None:
        """More is to come into a finished folder, which is unfinished until it is finished again."""
        (self.path / MANIFEST).replace(self.path / RUN)
        self.finished = False

    def finish(self, report: Mapping[str, Any] | None = None) -> Path:
        """Write the manifest, which makes the folder whole; returns its path."""
        self.report, self.made_with = dict(report or {}), made_with()
        header = {
            "kind": self.kind, "format": FORMAT, "config": self.config, "inputs": self.inputs, "report": self.report,
            "made_with": self.made_with,
        }  # fmt: skip
        with writing(self.path / MANIFEST):
            write_atomic(self.path / MANIFEST, json.dumps(header, indent=1, default=str))
        _tidy(self.path)
        self.finished = True
        return self.path


def folder_of(name: Path | str) -> Path:
    """A folder, or that of a repository of the Hub, fetched; raises `ArtifactError` if there is neither."""
    if Path(name).is_dir() or str(name).count("/") != 1 or str(name).startswith((".", "/")):
        return Path(name)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(str(name)))
    except Exception as error:  # of the network, or of the name
        raise ArtifactError(f"no folder {name}, and the Hub does not give it: {error}") from error


def check_fits(name: str, found: str, expected: str, remedy: str) -> None:
    """Raise `ArtifactError` unless two digests agree."""
    if found != expected:
        raise ArtifactError(f"{name} does not fit: digest {found[:12]}, expected {expected[:12]}; {remedy}")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _read_header(path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(path.read_text())
        return header | {key: header[key] for key in ("kind", "format", "config", "inputs")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path} cannot be read ({error}); make the folder again") from error


def _describe(out: Path) -> str:
    for name, state in ((MANIFEST, "a finished"), (RUN, "an unfinished")):
        if (out / name).is_file():
            return f"{state} {_read_header(out / name)['kind']}"
    return "files of something else"


def _delete_contents(out: Path, kind: str) -> None:
    ours = [out / name for name in (MANIFEST, RUN) if (out / name).is_file()]
    if not ours:
        raise ArtifactError(f"{out} is {_NEVER_DELETE}: not overwritten; choose another --out or empty it yourself")
    former = _read_header(ours[0])["kind"]  # another program's manifest.json is not ours to delete
    if former != kind:  # most likely an input, given as --out by mistake
        raise ArtifactError(f"{out} holds {_a(former)}, and {_a(kind)} does not replace it; choose another --out")
    ours[0].replace(out / RUN)  # from here on the folder is unfinished, however far the deleting gets
    for child in out.iterdir():
        if child.name != RUN:
            shutil.rmtree(child) if child.is_dir() and not child.is_symlink() else child.unlink()


def _take_up(out: Path, header: Mapping[str, Any], free: Collection[str]) -> Artifact:
    finished = (out / MANIFEST).is_file()
    if not finished and not (out / RUN).is_file():
        raise ArtifactError(f"{out} is {_NEVER_DELETE}: nothing to resume; choose another --out")
    former = _read_header(out / (MANIFEST if finished else RUN))
    changed = {name: header["config"].get(name) for name in free if name in former["config"]}
    fixed = {**former, "config": former["config"] | changed}
    for part in ("kind", "config", "inputs"):
        if fixed[part] != header[part]:
            raise ArtifactError(f"{out} cannot be resumed: it was begun with {_difference(part, fixed, header)}")
    _remove_torn(out, "*")
    if not finished:
        _warn_of_others(out, former.get("begun_with", {}))
    if former["config"] != header["config"]:
        former, finished = former | {"config": header["config"]}, False
        write_atomic(out / RUN, json.dumps(former, indent=1))
        (out / MANIFEST).unlink(missing_ok=True)
    if finished:
        _tidy(out)
    return Artifact(out, former, finished)


def _warn_of_others(out: Path, begun_with: Mapping[str, str]) -> None:
    now = made_with()
    others = [name for name in _SAME_BITS if name in begun_with and name in now and begun_with[name] != now[name]]
    if others:
        told = ", ".join(f"{name} {begun_with[name]}, now {now[name]}" for name in others)
        warnings.warn(f"{out} was begun with {told}: what is made now may differ in its last bits", stacklevel=4)


def _remove_torn(out: Path, name: str) -> None:
    """Remove what a former run left that was killed while it wrote."""
    for torn in out.glob(f".{name}.*{_ASIDE}"):
        torn.unlink()


def _tidy(out: Path) -> None:
    """Remove what only an unfinished folder needs."""
    (out / RUN).unlink(missing_ok=True)
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _difference(part: str, former: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    was, is_ = former[part], now[part]
    if isinstance(was, dict):
        keys = [key for key in {**was, **is_} if was.get(key) != is_.get(key)]
        return "another " + ", ".join(f"{key} ({was.get(key)!s:.40}, now {is_.get(key)!s:.40})" for key in keys)
    return f"{part} {was}, now {is_}"
