"""Results in a run's folder: the ensemble and what was made of it, the numbers, the pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from octavo.engine.manifest import FittedCascade, Leaks, Precision
from octavo.engine.run_files import Keys, RunFiles
from octavo.errors import UserError
from octavo.files import as_json, csv_bytes, inside, write_atomic
from octavo.integrity import checking, sha256_of
from octavo.numbers.ensemble import Ensemble
from octavo.numbers.mask_results import SegmentReport, report_of
from octavo.numbers.results import Report, Result
from octavo.numbers.speed_results import DistilReport

RESULTS = "results"
"""Key of `ensemble.json` that lists which of `OF_ENSEMBLE` there are, so that one that is gone is missed."""
OF_ENSEMBLE = ("ensemble.trained.json", "cascade.json", "precision.json")
FILES = "files"
"""Key of `metrics.json` that holds the SHA-256 of the files beside it."""
PREDICTIONS = "predictions/val.csv"
OF_METRICS = ("leaks.json", "distil.json", PREDICTIONS)


class RunResults:
    """What training and later commands found, in a run's folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.on_disk = RunFiles(path)

    @property
    def resume(self) -> str:
        """The command that resumes training."""
        raise NotImplementedError

    @property
    def ensemble(self) -> Ensemble:
        """How the members are combined.

        Raises:
            UserError: training has not come that far.
        """
        path = self.path / "ensemble.json"
        found = Ensemble.from_dict(self._ensemble_record(), str(path))
        self._require_fitting(found, path)
        return found

    def _require_fitting(self, ensemble: Ensemble, path: Path) -> None:
        """Refuse an ensemble, read from a file, of other members or classes than the run has."""
        raise NotImplementedError

    @ensemble.setter
    def ensemble(self, ensemble: Ensemble) -> None:
        self._write_ensemble(ensemble.to_dict(), self.results())

    def _ensemble_record(self) -> dict[str, Any]:
        if not self.combined:
            raise UserError(f"{self.path}: this run is not finished; go on with `{self.resume}`")
        path = self.path / "ensemble.json"
        record = self.on_disk.read_object(path, f"restore it from a copy, or delete it and {self._again} fits it again")
        record.pop(RESULTS, None)
        return record

    def _write_ensemble(self, record: Mapping[str, Any], results: Iterable[str]) -> None:
        kept = [name for name in OF_ENSEMBLE if name in set(results)]
        self.on_disk.write_object(self.path / "ensemble.json", {**record, **({RESULTS: kept} if kept else {})})

    def results(self) -> list[str]:
        """Return which of `OF_ENSEMBLE` there are."""
        path = self.path / "ensemble.json"
        if not self.combined or not self.on_disk.hashed:
            return [name for name in OF_ENSEMBLE if (self.path / name).is_file()]
        record = self.on_disk.read_object(path, f"restore it from a copy, or delete it and {self._again} fits it again")
        return list(record.get(RESULTS, []))

    def _result(self, name: str, remedy: str, model: type[BaseModel] | None = None) -> Keys | None:
        """Return a result that belongs to the ensemble; None where there is none."""
        return self.on_disk.read_object(self.path / name, remedy, model) if name in self.results() else None

    def _write_result(self, name: str, value: Mapping[str, Any] | None) -> None:
        """Write a result that belongs to the ensemble, or remove it; a kill in between leaves the state of before."""
        path, record, results = self.path / name, self._ensemble_record(), self.results()
        if value is not None:
            self.on_disk.write_object(path, value)
            self._write_ensemble(record, [*results, name])
        else:
            self._write_ensemble(record, [other for other in results if other != name])
            path.unlink(missing_ok=True)

    @property
    def _again(self) -> str:
        return self.on_disk.retrain

    @property
    def combined(self) -> bool:
        """Whether the members have been combined."""
        return (self.path / "ensemble.json").is_file()

    @property
    def unpruned(self) -> Ensemble | None:
        """The ensemble as training left it; None where it still is that."""
        name = "ensemble.trained.json"
        remedy = f"restore it from a copy, or delete ensemble.json and {self._again} fits the ensemble again"
        found = self._result(name, remedy)
        if found is None:
            return None
        ensemble = Ensemble.from_dict(found, str(self.path / name))
        self._require_fitting(ensemble, self.path / name)
        return ensemble

    def prune(self, ensemble: Ensemble) -> None:
        """Take another ensemble of the same members, and keep the one that training left."""
        results = self.results()
        if "ensemble.trained.json" not in results:
            self.on_disk.write_object(self.path / "ensemble.trained.json", self.ensemble.to_dict())
        self._write_ensemble(ensemble.to_dict(), [*results, "ensemble.trained.json"])

    def unprune(self) -> None:
        """Take the ensemble back that training left."""
        if (kept := self.unpruned) is not None:
            results = [name for name in self.results() if name != "ensemble.trained.json"]
            self._write_ensemble(kept.to_dict(), results)
            (self.path / "ensemble.trained.json").unlink()

    @property
    def cascade(self) -> dict[str, Any] | None:
        """The cascade that was fitted last, and how it did; None where none was."""
        return self._result("cascade.json", f"fit it again by `octavo ensemble cascade {self.path}`", FittedCascade)

    @cascade.setter
    def cascade(self, fitted: Mapping[str, Any]) -> None:
        self._write_result("cascade.json", fitted)

    @property
    def bf16(self) -> dict[str, Any] | None:
        """What was found of members that were trained in float32 and answer in bfloat16; None where none do."""
        remedy = f"restore it from a copy, or take it back by `octavo ensemble precision {self.path} --undo`"
        return self._result("precision.json", remedy, Precision)

    @bf16.setter
    def bf16(self, found: Mapping[str, Any] | None) -> None:
        self._write_result("precision.json", found)

    @property
    def has_bf16(self) -> bool:
        """Whether `bf16` is there, be it damaged."""
        return "precision.json" in self.results()

    def bf16_members(self, device: str) -> list[str]:
        """Return the members that `octavo ensemble precision --apply` let answer in bfloat16 on this kind of device."""
        found = self.bf16
        return sorted(found.get("members", ())) if found is not None and found["device"] == device else []

    def in_bf16(self, name: str, device: str) -> bool:
        """Tell whether a member is one of `bf16_members`."""
        return name in self.bf16_members(device)

    @property
    def metrics(self) -> Report | SegmentReport:
        """The numbers of the run's own evaluation.

        Raises:
            UserError: training has not come that far.
        """
        path = self.path / "metrics.json"
        if not path.is_file():
            raise UserError(f"{self.path}: this run is not finished; go on with `{self.resume}`")
        record = self._metrics_record()
        record.pop(FILES, None)
        return report_of(record, str(path))

    @metrics.setter
    def metrics(self, report: Report | SegmentReport) -> None:
        """Write the numbers, with the hashes of the files that go with them.

        Raises:
            Damaged: one of those that only training writes isn't what it was.
        """
        for name in set(self.files_of_metrics()) - {PREDICTIONS}:
            self._beside_metrics(name)
        files = {name: sha256_of(self.path / name) for name in OF_METRICS if (self.path / name).is_file()}
        self.on_disk.write_object(self.path / "metrics.json", {**as_object(report), FILES: files})

    def _metrics_record(self) -> Keys:
        path = self.path / "metrics.json"
        return self.on_disk.read_object(path, f"restore it from a copy, or delete it and {self._again} writes it anew")

    def _beside_metrics(self, name: str, model: type[BaseModel] | None = None) -> Keys | None:
        """Return a JSON file that is written before the numbers; None where there is none.

        Raises:
            Damaged: there was one when the numbers were written.
        """
        path = self.path / name
        known = name in self.files_of_metrics()
        if not path.is_file() and not known:
            return None
        again = f"delete it and metrics.json, and {self._again} makes both anew"
        return self.on_disk.read_object(path, f"restore it from a copy, or {again}", model)

    def check_predictions(self) -> None:
        """Compare the predictions that go with the numbers with their hash.

        Raises:
            Damaged: they are missing, or others than were written.
        """
        path, digest = self.path / PREDICTIONS, self.files_of_metrics().get(PREDICTIONS)
        with checking(path, digest, f"`octavo evaluate {self.path}` writes it anew"):
            pass

    def files_of_metrics(self) -> dict[str, str]:
        """Return the SHA-256 of the files that go with `metrics.json`; empty where that isn't written yet."""
        if not (self.path / "metrics.json").is_file() or not self.on_disk.hashed:
            return {}
        return dict(self._metrics_record().get(FILES, {}))

    @property
    def leaks(self) -> dict[str, Any] | None:
        """Which images parts of the data share, and how they were looked for; None where nobody did."""
        return self._beside_metrics("leaks.json", Leaks)

    @leaks.setter
    def leaks(self, found: Mapping[str, Any]) -> None:
        self.on_disk.write_object(self.path / "leaks.json", found)

    @property
    def distil(self) -> DistilReport | None:
        """How a student does beside its teacher; None where nobody taught it, or the two can't be compared."""
        found = self._beside_metrics("distil.json")
        return None if found is None else DistilReport.from_json(json.dumps(found), str(self.path / "distil.json"))

    @distil.setter
    def distil(self, report: DistilReport) -> None:
        self.on_disk.write_object(self.path / "distil.json", as_object(report))

    def state(self, of: Iterable[str]) -> str:
        """Return a digest of what may change in a finished run: `ensemble`, `cascade`, `precision`, `distil`."""
        facts = {"ensemble": self._ensemble_record, "cascade": lambda: self.cascade, "precision": lambda: self.bf16}
        digest = hashlib.sha256()
        for fact in of:
            found = self._beside_metrics("distil.json") if fact == "distil" else facts[fact]()
            digest.update(b"" if found is None else as_json(found))
            digest.update(b"\0")
        return digest.hexdigest()

    def explained(self, name: str) -> Path:
        """Return where a file lies that a look at the run left, such as `confusion.json`."""
        return inside(self.path / "explained", name)

    def write_explained(self, name: str, content: bytes) -> None:
        """Write a file of what a look found."""
        write_atomic(self.explained(name), content)

    def plot(self, name: str) -> Path:
        """Return where a picture lies, such as `confusion.png`."""
        return inside(self.plots, name)

    @property
    def plots(self) -> Path:
        """The folder of pictures."""
        return self.path / "plots"

    @property
    def page(self) -> Path:
        """Where the report lies."""
        return self.path / "report.html"

    def write_page(self, html: str) -> Path:
        """Write the report and return its path."""
        write_atomic(self.page, html.encode("utf-8", "replace"))
        return self.page

    def write_predictions(self, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write `predictions/SPLIT.csv` and return its path."""
        path = inside(self.path / "predictions", f"{split}.csv")
        write_atomic(path, csv_bytes(rows))
        return path


def as_object(result: Result) -> dict[str, Any]:
    """Return a result as the JSON object that its text holds, keys sorted."""
    return json.loads(result.to_json())
