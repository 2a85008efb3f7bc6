"""Recipe + data → a run: read, check, store, train each member, combine, grade."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from octavo.cache import open_cache
from octavo.engine.checkpoint import Stop
from octavo.engine.engine import train_member
from octavo.engine.folder import RunFolder
from octavo.engine.hardware import Hardware, find
from octavo.engine.job import Job
from octavo.engine.material import Material
from octavo.engine.teacher import identity_of, teacher_of
from octavo.errors import DiskFull, UserError
from octavo.networks import weights
from octavo.networks.build import check_weights
from octavo.networks.loading import sha256
from octavo.options import Options
from octavo.progress import Progress, Say, silent, unsaid
from octavo.recipe import Recipe, load
from octavo.tasks.known import task_of
from octavo.tasks.leakage import gate, gate_seconds
from octavo.verbs.announce import announce, announce_weights
from octavo.verbs.resuming import (
    all_trained,
    begun_before,
    how_far,
    place_of,
    require_checkpoints,
    require_same,
)
from octavo.verbs.settled import settled

Approve = Callable[[Material, Mapping[str, str]], None]


@dataclass(frozen=True)
class _Told:
    """A `Progress` that raises `Interrupted` once the user has asked to stop; it can travel to another process."""

    progress: Progress
    stop: Stop

    def __call__(self, what: str, done: int, total: int, note: str = "") -> None:
        self.progress(what, done, total, note)
        self.stop.check()


def train(
    recipe: str | Path | Recipe | None,
    data: str | Path | None,
    overrides: Iterable[str] = (),
    options: Options | None = None,
    *,
    progress: Progress = silent,
    say: Say = unsaid,
    scratch: Path | None = None,
    approve: Approve | None = None,
) -> RunFolder:
    """Train a recipe on a folder of images and return its run.

    Args:
        recipe: name, file or Recipe; with `options.resume` it may be left out and is read from the run.
        data: folder, CSV file or `torchvision:NAME`; may be left out with `options.resume`.
        overrides: changes such as `train.epochs=3`.
        options: how to run it.
        progress: told how far it is.
        say: told what a user should know before it starts, a line each.
        scratch: folder to decode and to compute features into, instead of the cache.
        approve: given the data and each member's hash of weights before the run's folder is made; may refuse.

    Raises:
        UserError: anything that can be known to go wrong, before the first step.
        Interrupted: the user asked to stop; `resume` goes on.
    """
    try:
        return _trained(recipe, data, overrides, options or Options(), progress, say, scratch, approve)
    except DiskFull as error:
        raise DiskFull(error.fact, "go on with --resume") from error


def _trained(
    recipe: str | Path | Recipe | None,
    data: str | Path | None,
    overrides: Iterable[str],
    options: Options,
    progress: Progress,
    say: Say,
    scratch: Path | None,
    approve: Approve | None,
) -> RunFolder:
    asked = load(recipe, overrides) if recipe is not None else None
    out = _out(asked, options)
    named = asked is not None and data is not None
    before = begun_before(out, named, options, _inputs(recipe, data, options), say)
    if before:
        options = options.over(before.manifest["options"])
        require_checkpoints(before)
    hardware = find(options.device, options.devices)
    resolved = settled(asked or load(_recipe_of(before), overrides), hardware)
    cache = scratch or open_cache(options.cache)
    with Stop().listening() as stop:
        told = _Told(progress, stop)
        task, done = task_of(resolved), before is not None and all_trained(before)
        material = _material(
            resolved.without_start() if done else resolved, data or _data_of(before), options, cache, told
        )
        _share(resolved, material, hardware)
        if not done:
            task.require(resolved, material, out)
            announce_weights(resolved, options, say)
        origins = _origins(resolved, options, before, told)
        if approve:
            approve(material, origins)
        run = before or _begun(resolved, material, hardware, out, options, origins, cache, say)
        say(f"run: {run.path}" + (f", gone on with: {how_far(run)}" if before else ""))
        with run.locked():
            if before:
                require_same(before, resolved, material, origins)
                before.sweep()
            gate(run, material, cache, options.leaks, told, say)
            job = _job(resolved, material, options, cache, hardware, run)
            _train_networks(run, job, told, stop, say)
            task.finish(run, done, told, say)
            if options.report:  # still locked: another process must not start the run anew under the report
                from octavo.verbs.report import bind  # Bokeh and Matplotlib, which a training without a report spares

                bind(run, hardware.kind, told, say)
    return run


def _material(recipe: Recipe, data: str | Path, options: Options, cache: Path, progress: Progress) -> Material:
    return task_of(recipe).load_data(
        recipe,
        str(data),
        options.layout,
        cache,
        options.skip_broken,
        options.labels,
        columns=options.columns,
        progress=progress,
    )


def _inputs(recipe: str | Path | Recipe | None, data: str | Path | None, options: Options) -> dict[str, Path | None]:
    """Return the files and folders that a training reads, by what named them."""
    return {
        "recipe": Path(recipe) if isinstance(recipe, str | Path) else None,
        "--data": Path(data) if data is not None else None,
        "--labels": options.labels,
        "--weights-dir": options.weights_dir,
        "--cache": options.cache,
    }


def _job(recipe: Recipe, material: Material, options: Options, cache: Path, hardware: Hardware, run: RunFolder) -> Job:
    return Job(
        recipe,
        recipe.networks[0],
        len(material.classes),
        material.labels,
        material.parts,
        material.pixels,
        options.weights_dir,
        cache,
        hardware,
        run.path / "tensorboard" if options.tensorboard else None,
        material.samples.files,
        material.names,
        material.table,
        material.folds,
    )


def _origins(recipe: Recipe, options: Options, before: RunFolder | None, progress: Progress) -> dict[str, str]:
    """Return the SHA-256 of the weights file of each member that is still to be trained, downloading what is missing.

    Raises:
        UserError: the first that can't be had, is damaged, or doesn't fit its network.
    """
    todo = [m for m in recipe.networks if before is None or not before.member(m.name).finished]
    if not todo:
        return {}
    paths = weights.gather(recipe, options.weights_dir, progress=True, only=[m.name for m in todo])
    task = task_of(recipe)
    paths |= task.start_files(recipe)
    networks = {m.name: m for m in todo}
    hashes: dict[tuple[Path, str], str] = {}
    extractors = {name: networks[name].extractor if name in networks else "" for name in paths}
    for done, (name, path) in enumerate(paths.items(), 1):
        if (path, extractors[name]) not in hashes:  # members with one extractor start from one file
            own = networks.get(name)
            fits = own and check_weights(task.extractor(own, recipe), name, path)
            hashes[path, extractors[name]] = fits or sha256(path)
        progress("check weights", done, len(paths))
    return {name: hashes[path, extractors[name]] for name, path in paths.items()}


def _train_networks(run: RunFolder, job: Job, progress: Progress, stop: Stop, say: Say) -> None:
    """Train the networks one after another, and say how each came out, for a user who waits for the others."""
    task, names = task_of(job.recipe), [network.name for network in job.recipe.networks]
    for network in job.recipe.networks:
        train_member(task, replace(job, member=network), run.member(network.name), progress, stop, say)
        run.collect_history(names)
        if line := task.result(run, job, network):
            say(line)


def _begun(
    recipe: Recipe,
    material: Material,
    hardware: Hardware,
    out: Path,
    options: Options,
    origins: Mapping[str, str],
    cache: Path,
    say: Say,
) -> RunFolder:
    """Return a new run's folder with recipe, samples and manifest in it."""
    task, pixels = task_of(recipe), material.pixels
    known = task.cached_features(recipe, len(material.classes), pixels, origins, hardware.kind, cache)
    announce(recipe, material, hardware, out, say, known, gate_seconds(material, cache, options.leaks))
    run, teacher = RunFolder.new(out, overwrite=options.overwrite), teacher_of(recipe)
    manifest = material.manifest(recipe, hardware) | {
        "weights": dict(origins),
        "options": replace(options, device=hardware.kind).kept(),
        **({"teacher": identity_of(teacher)} if teacher else {}),
    }
    run.begin(recipe, manifest, material.rows)
    return run


def _share(recipe: Recipe, material: Material, hardware: Hardware) -> None:
    """Refuse batches that can't be shared out: each device needs two images of each batch."""
    least = 2 * hardware.count if hardware.count > 1 else recipe.least_batch
    for i, network in enumerate(recipe.networks):
        size = min(recipe.train_of(network).batch_size, material.counts_of_one["fit"])
        if size < least:
            own = getattr(network, "batch_size", None)
            where = "train.batch_size" if own is None else f"members[{i}].batch_size"
            raise UserError(f"{where}: batches of {size} on {hardware.count} devices; expected {least} or more")


def _out(recipe: Recipe | None, options: Options) -> Path:
    if options.out:
        return options.out
    if recipe is None:
        raise UserError("train: name a recipe, or, with --resume, the run's folder by --out")
    return place_of(Path("runs") / recipe.name, options)


def _recipe_of(run: RunFolder | None) -> Recipe:
    if run is None:
        raise UserError("train: name a recipe; `octavo recipes` lists those that are shipped")
    return run.recipe


def _data_of(run: RunFolder | None) -> str:
    if run is None:
        raise UserError("train: name the data: --data FOLDER, a CSV file, or torchvision:NAME")
    return str(run.manifest["data"]["root"])
