"""One training by Lightning's Trainer, from its start or its checkpoint to the network that the member becomes."""

from __future__ import annotations

import atexit
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import TensorBoardLogger
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessRaisedException
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from octavo.data.batches import Batch, Batches, Steps, loader
from octavo.engine.checkpoint import Bar, Saver, Stop
from octavo.engine.checkpoint_file import AtomicCheckpointIO, position, read_best
from octavo.engine.hardware import seed_device
from octavo.engine.job import Job, Prepared
from octavo.engine.member_folder import MemberFolder
from octavo.engine.task import Task
from octavo.errors import DiskFull, UserError
from octavo.keyed import seed_of
from octavo.progress import Interrupted, Progress


class _Data(pl.LightningDataModule):
    """The batches of a training, for each process its share."""

    def __init__(self, job: Job, prepared: Prepared, start: tuple[int, int]) -> None:
        super().__init__()
        self.job, self.prepared, self.start = job, prepared, start

    def setup(self, stage: str) -> None:
        """In a process that DDP started, hush Lightning as in the one that started it, and see to a clean end."""
        _hush()
        if distributed.is_initialized():
            # Gloo's threads abort a process that ends as a member (pytorch/pytorch#179291).
            atexit.register(_leave)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return the training images in keyed order, from where the checkpoint stands."""
        job, trainer = self.job, self.trainer
        assert trainer is not None
        batches = Batches(
            self.prepared.source,
            job.parts["fit"],
            job.labels,
            job.train.batch_size,
            seed=job.seed,
            rank=trainer.global_rank,
            world=trainer.world_size,
        )
        steps = Steps(len(batches), *self.start, epoch=self.start[0])
        return loader(batches, steps, workers=job.hardware.workers, pin=job.hardware.kind == "cuda")

    def val_dataloader(self) -> DataLoader[Batch]:
        """Return the held-out images in their order."""
        return self.prepared.in_order(self.job.parts["holdout"])


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def fit(
    job: Job, folder: MemberFolder, prepared: Prepared, extra: Sequence[Callback], progress: Progress, stop: Stop
) -> Task:
    """Run Lightning's Trainer to the end of a network's training and return the task; `extra` callbacks look on.

    Raises:
        Interrupted: the user asked to stop; the checkpoint is saved.
        UserError: a full disk.
    """
    train, source, net = job.train, prepared.source, prepared.trained
    resumes = folder.checkpoint.is_file()
    start = position(folder.checkpoint) if resumes else (0, 0)
    if not resumes:
        folder.best.unlink(missing_ok=True)  # of a training that was killed before its first checkpoint
    steps = len(Batches(source, job.parts["fit"], job.labels, train.batch_size, world=job.hardware.count))
    if train.channels_last and net is prepared.net:
        net = net.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    task = Task(net, prepared.ways, train, prepared.goal, steps=steps, seed=job.seed)
    callbacks = [*_callbacks(job, folder, prepared, progress, stop), *extra]
    with _quiet(), _children(stop):
        trainer = pl.Trainer(
            accelerator="gpu" if job.hardware.kind == "cuda" else job.hardware.kind,
            devices=job.hardware.count,
            strategy=_strategy(job),
            max_epochs=train.epochs,
            precision="bf16-mixed" if job.bf16 else "32-true",
            accumulate_grad_batches=train.accumulate,
            callbacks=callbacks,
            plugins=[AtomicCheckpointIO()],
            limit_val_batches=1.0 if len(job.parts["holdout"]) else 0,
            logger=TensorBoardLogger(job.tensorboard, job.title, "") if job.tensorboard else False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=folder.folder,
        )
        trainer.fit(
            task,
            datamodule=_Data(job, prepared, start),
            ckpt_path=folder.checkpoint if resumes else None,
        )
    return task


def _callbacks(
    job: Job, folder: MemberFolder, prepared: Prepared, progress: Progress, stop: Stop
) -> Iterator[Callback]:
    """Yield what every training has: checkpoints, progress, and an early end where the recipe asks for it."""
    train, goal = job.train, prepared.goal
    yield Saver(folder.checkpoint, train.checkpoint_minutes, stop, folder.best if train.keep == "best" else None)
    yield Bar(progress, f"{job.title}: train", train.epochs)
    if train.patience:
        yield EarlyStopping(goal.monitor, mode=goal.mode, patience=train.patience, check_on_train_epoch_end=False)


@contextmanager
def _children(stop: Stop) -> Iterator[None]:
    """Raise again, as what it was, what was raised in a process that DDP or a loader of batches started."""
    try:
        yield
    except ProcessRaisedException as error:
        if stop.signal:
            raise Interrupted(stop.signal) from None
        if (told := _told(str(error))) is not None:
            raise told from error
        raise
    except UserError as error:
        if (told := _told(str(error))) is not None:
            raise told from error
        raise


def _told(traceback: str) -> UserError | None:
    """Return the last error for the user in the text of a traceback; None where there is none in it."""
    found = re.findall(r"^octavo\.errors\.(UserError|NotWritten|DiskFull|Damaged): (.*)$", traceback, re.MULTILINE)
    if not found:
        return None
    kind, message = found[-1]
    return DiskFull.read(message) if kind == "DiskFull" else UserError(message)


def _strategy(job: Job) -> str:
    if job.hardware.count == 1:
        return "auto"
    return "ddp_spawn_find_unused_parameters_true" if job.train.head_epochs else "ddp_spawn"


def chosen(job: Job, folder: MemberFolder, task: Task, prepared: Prepared, progress: Progress) -> nn.Module:
    """Return the network that the member becomes: last, averaged or best weights, its statistics computed anew."""
    net = task.best_net
    if job.train.keep == "best":
        if not folder.best.is_file():
            number = prepared.goal.monitor.replace("holdout_", "held-out ")
            raise UserError(
                f"member {job.title}: its {number} was never a finite number, so its training diverged; lower train.lr"
            )
        net.load_state_dict(read_best(folder.best))
    reestimate(job, prepared, net, progress)
    return net


def reestimate(job: Job, prepared: Prepared, net: nn.Module, progress: Progress) -> None:
    """Compute a network's batch-norm statistics anew over the training images, where the recipe says so."""
    if not job.train.reestimate_norm:
        return
    frozen = getattr(net, "backbone", None) if job.train.mode == "frozen" else None
    device, what = job.hardware.device, f"{job.title}: batch-norm statistics"
    seed_device(device, seed_of(job.seed, "norm"))
    batches, ways = prepared.in_order(job.parts["fit"]), prepared.ways

    def images() -> Any:
        for done, batch in enumerate(batches, 1):
            x = ways.plain(batch.to(device))
            yield frozen.eval()(x) if frozen is not None else x
            progress(what, done, len(batches))

    net.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=job.bf16):
        update_bn(images(), net.head if frozen is not None else net)  # pyright: ignore[reportArgumentType]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's advice out of the user's terminal; what matters is told by our own words."""
    with warnings.catch_warnings():
        _hush()
        yield


def _hush() -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.ERROR)
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
