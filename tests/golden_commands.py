"""The command lines of the session that `golden_session.py` runs, in order."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from golden_session import Step, damage, unfinish


def _line(name: str, words: str) -> tuple[str, list[str]]:
    return name, words.split()


TRAININGS: list[Step] = [
    _line("train-frozen", "train frozen.toml --data digits --out frozen --device cpu --no-report"),
    _line("train-tuned", "train tuned.toml --data digits --out tuned --device cpu --no-report"),
    _line("train-fcn-frozen", "train fcn-frozen.toml --data scenes --out fcn-frozen --device cpu --no-report"),
    _line("train-fcn-tuned", "train fcn-tuned.toml --data scenes --out fcn-tuned --device cpu --no-report"),
]
"""What the other commands need."""

QUICK: list[Step] = [
    _line("version", "--version"),
    _line("recipes", "recipes"),
    _line("classes", "classes"),
    _line("classes-course", "classes course"),
    _line("check-missing", "check nowhere"),
    _line("unknown-command", "trian"),
    _line("unknown-option", "train frozen.toml --epochs 3"),
]
"""Commands that need neither a run nor torch, for the tests of the comparison itself."""

COMMANDS: list[Step] = [
    *QUICK,
    _line("check-table", "check tables/digits.csv"),
    _line("check-empty", "check empty"),
    _line("check-bad-layout", "check digits --layout pascal"),
    _line("check-digits", "check digits"),
    _line("check-scenes", "check scenes"),
    _line("check-scenes-course", "check scenes --classes course --no-leaks"),
    _line("check-broken", "check broken"),
    _line("check-no-labels", "check tables/no-labels.csv"),
    _line("train-no-data", "train frozen.toml"),
    _line("train-missing-data", "train frozen.toml --data nowhere --out x"),
    _line("train-unknown-recipe", "train quik --data digits --out x"),
    _line("train-unknown-key", "train unknown-key.toml --data digits --out x"),
    _line("train-unknown-network", "train unknown-network.toml --data digits --out x"),
    _line("train-cut-short", "train cut-short.toml --data digits --out x"),
    _line("train-bad-set", "train frozen.toml --data digits --out x --set train.epoch=3"),
    _line("train-bad-value", "train frozen.toml --data digits --out x --set train.epochs=-3"),
    _line("train-other-data", "train fcn-frozen.toml --data digits --out x"),
    _line("help", "--help"),
    _line("train-taken", "train frozen.toml --data digits --out frozen --no-report"),
    _line("train-resume-finished", "train --resume --out frozen --no-report"),
    _line("train-resume-nothing", "train --resume --out nowhere"),
    partial(unfinish, "tuned", "squeeze"),
    _line("resume-tuned", "train --resume --out tuned-stopped --no-report"),
    partial(unfinish, "fcn-frozen", "segmenter"),
    _line("resume-fcn", "train --resume --out fcn-frozen-stopped --no-report"),
    _line("evaluate-frozen", "evaluate frozen"),
    _line("evaluate-tuned-data", "evaluate tuned --data digits --out tuned.json --device cpu"),
    _line("evaluate-holdout", "evaluate tuned --split holdout"),
    _line("evaluate-coverage", "evaluate frozen --coverage 0.9"),
    _line("evaluate-aps", "evaluate frozen --coverage 0.8 --sets aps"),
    _line("evaluate-fcn", "evaluate fcn-frozen"),
    _line("evaluate-fcn-rule", "evaluate fcn-tuned --rule voc"),
    _line("evaluate-fcn-all", "evaluate fcn-tuned --all-classes --data scenes --out fcn.json"),
    _line("evaluate-bad-rule", "evaluate fcn-tuned --rule vocc"),
    _line("evaluate-rule-of-classifier", "evaluate frozen --rule voc"),
    _line("evaluate-no-run", "evaluate digits"),
    _line("predict-frozen", "predict frozen digits/val --out frozen.csv"),
    _line("predict-probabilities", "predict tuned digits/val --out tuned.csv --probabilities --coverage 0.9"),
    _line("predict-ids", "predict tuned digits/val --out ids.csv --ids --member squeeze"),
    _line("predict-broken", "predict frozen broken --out broken.csv"),
    _line("predict-taken", "predict frozen digits/val --out tables/digits.csv"),
    _line("predict-no-member", "predict frozen digits/val --out y.csv --member squeze"),
    _line("predict-no-cascade", "predict frozen digits/val --out y.csv --cascade"),
    _line("predict-missing", "predict frozen nowhere.png --out y.csv"),
    _line("predict-fcn", "predict fcn-frozen scenes/validation/0100_sat.png --out masks --overlay 0.5"),
    _line("predict-fcn-views", "predict fcn-tuned scenes/validation --out views --flips --scale 1.0 --scale 1.5"),
    _line("predict-fcn-windows", "predict fcn-tuned scenes/validation --out windows --window 64 --overlap 32"),
    _line("predict-fcn-coverage", "predict fcn-tuned scenes/validation --out no-masks --coverage 0.9"),
    _line("score-digits", "score frozen.csv --truth digits"),
    _line("score-run", "score frozen.csv --truth frozen --out score.json"),
    _line("score-ids", "score ids.csv --truth digits --missing-wrong"),
    _line("score-masks", "score views --truth scenes --classes course --split val"),
    _line("score-nothing", "score nowhere.csv --truth digits"),
    _line("ensemble-cascade", "ensemble cascade frozen"),
    _line("ensemble-prune", "ensemble prune frozen --budget 5"),
    _line("ensemble-precision", "ensemble precision tuned"),
    _line("ensemble-prune-fcn", "ensemble prune fcn-tuned"),
    _line("explain-confusion", "explain frozen --look confusion --look embedding --device cpu"),
    _line("explain-gradcam", "explain tuned --look gradcam --image val/disc/00.png --device cpu"),
    _line("explain-unknown", "explain frozen --look confusoin"),
    _line("report-frozen", "report frozen --device cpu"),
    _line("report-fcn", "report fcn-tuned --device cpu"),
    _line("compare", "report frozen tuned --out compare.html"),
    _line("compare-tasks", "report frozen fcn-tuned --out no.html"),
    _line("distil", "distil frozen --student squeeze --out student --set train.epochs=2 --no-report"),
    _line("distil-fcn", "distil fcn-tuned --student vgg16 --out no-student"),
    _line("reproduce", "reproduce tuned --out again --device cpu"),
    _line("reproduce-fcn", "reproduce fcn-frozen --out fcn-again --device cpu"),
    _line("verify", "verify frozen"),
    partial(damage, "frozen", "members/squeeze/outputs.safetensors"),
    _line("verify-damaged", "verify frozen-damaged"),
    _line("evaluate-damaged", "evaluate frozen-damaged"),
    _line("describe", "describe frozen.toml --depth 2"),
    _line("describe-fcn", "describe fcn-tuned.toml --classes 7 --depth 1"),
    _line("weights-list", "weights list frozen.toml"),
    partial(shutil.rmtree, Path("frozen-damaged")),
]
"""All commands but the four trainings."""
