"""Bad input beyond the files of rows: values, models, checkpoints, indices, commands.

Together with ``test_bad_input`` this covers the 57 classes; the last test holds them all to account.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch

from kexue_pl.balancers import Geometric
from kexue_pl.data.files import Files
from kexue_pl.data.keyed_pairs import KeyedPairs
from kexue_pl.data.kgclue import KgCLUE
from kexue_pl.data.multitask_world import MultitaskWorld
from kexue_pl.gradients.losses import global_losses
from kexue_pl.models import Pretrained, Small
from kexue_pl.models.pretrained_mlm import PretrainedMLM
from kexue_pl.models.tokenizers import train_tokenizer
from kexue_pl.models.unilm import UniLM
from kexue_pl.predict.cli import main
from kexue_pl.predict.pairs import write_rows
from kexue_pl.predict.restore import restore
from kexue_pl.reading import DataError, Field, read_table
from kexue_pl.retrieval import PrefixIndex
from kexue_pl.retrieval.key_files import read_blocks
from kexue_pl.run.checkpoint_io import CheckpointCorruptError, VerifiedCheckpointIO, read
from kexue_pl.run.tokenizer_files import pack, unpack
from tests.faults import test_bad_input
from tests.faults.bad_input import delimited, objects
from tests.support.matching_runs import STATIC, write_run

ROOT = Path(__file__).resolve().parents[2]


def put(folder: Path, name: str, rows: list[Any]) -> str:
    (folder / name).write_bytes(delimited("\t", rows))
    return str(folder / name)


def pairs(folder: Path, rows: list[Any], **options: Any) -> Files:
    valid = put(folder, "valid.tsv", [("x", "y", 1), ("z", "w", 0)])
    data = Files(train=put(folder, "train.tsv", rows), valid=valid, **options)
    data.setup("fit")
    return data


def test_27_labels_out_of_range(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train.tsv:2: label out of range 0..5; saw '6'"):
        pairs(tmp_path, [("a", "b", 5), ("c", "d", 6)], label_low=0, label_high=5)


LONG = [("甲" * 5, "乙", 1), ("甲" * 50, "乙", 0), ("丙", "丁" * 50, 1)]


@pytest.mark.parametrize("joined", [False, True])
def test_36_too_long_texts(tmp_path: Path, joined: bool, caplog: pytest.LogCaptureFixture) -> None:
    for strict in (False, True):
        data = pairs(tmp_path, LONG, strict=strict)
        data.tokenizer = train_tokenizer(data.texts(), min_frequency=1)
        encoder = Small(hidden_size=8, heads=2, layers=1, max_length=16).build(data.tokenizer)
        if strict:
            with pytest.raises(DataError, match=r"train.tsv:2: a text of more than 16 tokens \(2"):
                data.use(encoder, joined=joined)
        else:
            data.use(encoder, joined=joined)
            assert data.counts["train_texts_cut"] == 2
            assert (
                f"2 texts were cut to 16 tokens, the first at {tmp_path}/train.tsv:2" in caplog.text
            )


def test_36_too_long_questions(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("问甲", "甲"), ("问" * 20, "乙"), ("问丙", "丙" * 40)]
    path = put(tmp_path, "train.tsv", rows)
    for strict in (False, True):
        data = KeyedPairs(train=path, valid=path, max_question=8, max_length=32, strict=strict)
        data.setup("fit")
        data.tokenizer = train_tokenizer(data.texts(), min_frequency=1)
        if strict:
            with pytest.raises(
                DataError, match=r"row 1 has 20 tokens, more than data.max_question"
            ):
                data.train_dataloader()
        else:
            data.train_dataloader()
            assert data.counts["train_questions_cut"] == data.counts["train_rows_cut"] == 1
            assert "1 questions are longer than data.max_question=8 and are cut" in caplog.text
            assert "1 rows are longer than data.max_length=32 and are cut" in caplog.text


def test_38_repeated_ids(tmp_path: Path) -> None:
    rows = [("1", "a", "b", 1), ("2", "c", "d", 0), ("1", "e", "f", 1)]
    columns = {"id_column": 0, "text1_column": 1, "text2_column": 2, "label_column": 3}
    fields = {
        "id": Field("any", column=0, unique=True), "text1": Field(column=1)
    }  # fmt: skip
    path = put(tmp_path, "train.tsv", rows)
    with pytest.raises(DataError, match=rf"train.tsv:3: the id was seen before, at {path}:1"):
        read_table(path, fields)
    with pytest.raises(DataError, match=r"train.tsv:3: the id was seen before"):
        Files(train=path, valid=put(tmp_path, "v.tsv", rows[:2]), **columns).setup("fit")  # type: ignore[arg-type]


def test_38_repeated_and_contradicting_rows_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("a", "b", 1), ("b", "a", 1), ("a", "b", 0), ("c", "d", 0)]
    data = pairs(tmp_path, rows)
    assert len(data.tables["train"]) == 4
    assert data.counts["train_rows_repeated"] == data.counts["train_rows_contradicting"] == 1
    assert "the pairs of 1 rows occur with different labels" in caplog.text


def test_39_rows_that_are_also_evaluated(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = pairs(tmp_path, [("x", "y", 1), ("a", "b", 0), ("c", "d", 1)])
    assert len(data.tables["train"]) == 2
    assert data.counts["train_rows_also_evaluated"] == 1
    assert "1 training rows that are also evaluated were left out" in caplog.text


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with its tokenizer, as transformers saves them."""
    from transformers import BertConfig, BertForMaskedLM

    folder = tmp_path_factory.mktemp("model")
    tokenizer = train_tokenizer(["甲乙丙丁"], min_frequency=1)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=8, max_position_embeddings=32,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bert(folder: Path, *, vocabulary: str = "甲乙丙丁") -> None:
    for spec in (Pretrained(path=str(folder)), PretrainedMLM(path=str(folder)),
                 UniLM(pretrained=str(folder))):  # fmt: skip
        tokenizer = spec.load_tokenizer()
        if len(vocabulary) > 4:
            tokenizer.add_tokens(list(vocabulary[4:]))
        spec.build(tokenizer)


def test_40_a_vocabulary_beyond_the_embeddings(model_folder: Path) -> None:
    bert(model_folder)
    for spec in (Pretrained(path=str(model_folder)), PretrainedMLM(path=str(model_folder)),
                 UniLM(pretrained=str(model_folder))):  # fmt: skip
        tokenizer = spec.load_tokenizer()
        tokenizer.add_tokens(["戊", "己"])
        with pytest.raises(ValueError, match=r"model\.\w+=.*ids up to \d+, the embeddings .* rows"):
            spec.build(tokenizer)


BROKEN = {
    "tokenizer cut off": ("tokenizer.json", lambda b: b[: len(b) // 2]),
    "tokenizer of zeros": ("tokenizer.json", lambda b: b"\0" * len(b)),
    "tokenizer of another kind": ("tokenizer.json", lambda b: b'{"model": {"type": "X"}}'),
    "weights cut off": ("model.safetensors", lambda b: b[:100]),
    "weights of text": ("model.safetensors", lambda b: b"weights" * 40),
    "no configuration": ("config.json", None),
    "configuration cut off": ("config.json", lambda b: b[:20]),
    "configuration of another size": (
        "config.json", lambda b: b.replace(b'"hidden_size": 8', b'"hidden_size": 10')
    ),
    "code instead of a class": (
        "config.json",
        lambda b: b.replace(b'"bert"', b'"own"')[:-2] + b', "auto_map": {"AutoConfig": "a.B"}}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_40_corrupt_model_folders(model_folder: Path, tmp_path: Path, kind: str) -> None:
    name, change = BROKEN[kind]
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    whole = (folder / name).read_bytes()
    (folder / name).unlink()
    if change is not None:
        assert change(whole) != whole
        (folder / name).write_bytes(change(whole))
    with pytest.raises(ValueError, match=r"model\.\w+=.*model"):
        bert(folder)


def test_40_weights_in_a_pickle_are_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"model.path=.*safetensors"):
        bert(folder)


def test_41_keys_and_bases(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = PrefixIndex.build([([5], 1), ([5, 6], 2)], separator=2)
    assert index.values([5]) == [1, 2] and index.values([5, 2]) == [1]  # one key begins another
    with pytest.raises(ValueError, match=r"no rows; give at least one key"):
        PrefixIndex.build([], separator=2)
    path = put(tmp_path, "q.tsv", [("问甲", "甲"), ("问乙", "乙")])
    (tmp_path / "keys.txt").write_text("甲\n", encoding="utf-8")
    data = KeyedPairs(train=path, valid=path, keys=str(tmp_path / "keys.txt"))
    data.setup("fit")
    assert data.counts["valid_keys_unknown"] == 1
    assert "the keys of 1 of 2 queries are not in data.keys, the first is '乙'" in caplog.text


def test_41_answers_that_the_base_lacks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [("问甲", "甲 ||| 乙 ||| 丙"), ("问丁", "丁 ||| 乙 ||| 丙")]
    (tmp_path / "q.json").write_bytes(objects("question answer", rows))
    base = put(tmp_path, "base.tsv", [("甲", "乙", "丙")])
    data = KgCLUE(train=str(tmp_path / "q.json"), valid=str(tmp_path / "q.json"), triples=base)
    data.setup("fit")
    assert data.counts["valid_answers_unknown"] == data.counts["test_answers_unknown"] == 1
    assert "no answer to them can be right" in caplog.text


COLUMNS = {"text1": ["a", "b"], "text2": ["c", "d"], "label": [1, 0]}
PARQUET: list[tuple[str, dict[str, Any], str]] = [
    ("null text", {**COLUMNS, "text2": ["c", None]}, r":2: text2 is not text; saw 'None'"),
    ("null label", {**COLUMNS, "label": [1, None]}, r":2: label is missing"),
    ("text of bytes", {**COLUMNS, "text1": [b"a", b"b"]}, r":1: text1 is not text"),
    ("no column", {"text1": ["a"], "label": [1]}, r"no column 'text2'"),
    ("no rows", {"text1": [], "text2": [], "label": []}, r"no rows"),
    ("nan label", {**COLUMNS, "label": [0.5, float("nan")]}, r":2: label is not finite"),
]


@pytest.mark.parametrize("case", PARQUET, ids=lambda c: c[0])
def test_parquet(tmp_path: Path, case: tuple[str, dict[str, Any], str]) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(case[1]), path)
    fields = {"text1": Field(), "text2": Field(), "label": Field("label")}
    with pytest.raises(DataError, match=f"a.parquet.*{case[2]}"):
        read_table(path, fields)


def test_parquet_of_keys_and_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table({"subject": ["a", None], "predicate": ["b", "c"]}), path)
    with pytest.raises(DataError, match=r"a.parquet:2: subject is missing"):
        list(read_blocks(path, ("subject", "predicate")))
    with pytest.raises(DataError, match=r"a.parquet: no column 'object'"):
        list(read_blocks(path, ("object",)))
    parquet.write_table(pa.table({"subject": [1.5]}), path)
    with pytest.raises(DataError, match=r"'subject' holds double, expected text"):
        list(read_blocks(path, ("subject",)))
    whole = path.read_bytes()
    for damaged in (whole[:40], b"PAR1" + b"\0" * 60 + b"PAR1", whole[:-9] + b"\xff" * 9):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"a.parquet: (not a Parquet file|damaged)"):
            list(read_blocks(path, ("subject",)))
        with pytest.raises(DataError, match=r"a.parquet: (not a Parquet file|damaged)"):
            read_table(path, {"subject": Field()})


@pytest.mark.parametrize("tasks", [["kind", "nothing"], [], ["kind", "kind"]])
def test_42_43_unknown_tasks_and_none(tasks: list[str]) -> None:
    with pytest.raises(ValueError, match=r"data.tasks=.*: expected some of"):
        MultitaskWorld(tasks=tasks)


def test_43_a_task_that_a_batch_has_rows_of_but_no_loss() -> None:
    with pytest.raises(ValueError, match=r"task 1 has count 4 and loss None"):
        global_losses([torch.tensor(1.0), None], counts=[4, 4])


def test_45_losses_that_no_rule_can_weigh() -> None:
    with pytest.raises(ValueError, match=r"loss of task 1 has shape \(2,\), not a scalar"):
        global_losses([torch.tensor(1.0), torch.ones(2)])
    with pytest.raises(ValueError, match=r"needs positive losses, but task 1 has -2"):
        Geometric().weights(None, torch.tensor([1.0, -2.0]))


def empty_vocabulary() -> dict[str, torch.Tensor]:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    return pack(PreTrainedTokenizerFast(tokenizer_object=core))


def resaved(path: Path, change: Any) -> Path:
    stored = read(path)
    change(stored)
    VerifiedCheckpointIO().save_checkpoint(stored, path)
    return path


CHECKPOINTS: dict[str, tuple[Any, str]] = {
    "no facts": (lambda s: s.pop("callbacks"), "not the checkpoint of a run"),
    "no tokenizer": (
        lambda s: s["callbacks"]["RunState"]["facts"].pop("tokenizer"), "holds no tokenizer"
    ),
    "no weights": (lambda s: s.pop("state_dict"), "holds no state_dict"),
    "a weight missing": (
        lambda s: s["state_dict"].pop(next(iter(s["state_dict"]))), "weights of another model: no "
    ),
    "a weight too many": (
        lambda s: s["state_dict"].update(more=torch.zeros(1)), "more is not in the model"
    ),
    "another shape": (
        lambda s: s["state_dict"].update(
            {k: torch.zeros(3, 3) for k in list(s["state_dict"])[:1]}
        ),
        r"is \(3, 3\), the model has",
    ),
    "no words": (
        lambda s: s["callbacks"]["RunState"]["facts"].update(tokenizer={}),
        "holds no words of a tokenizer, which Static needs",
    ),
    "an empty vocabulary": (
        lambda s: s["callbacks"]["RunState"]["facts"].update(tokenizer=empty_vocabulary()),
        "the tokenizer in the checkpoint holds no words",
    ),
    "a tokenizer of zeros": (
        lambda s: s["callbacks"]["RunState"]["facts"].update(
            tokenizer={"tokenizer.json": torch.zeros(9, dtype=torch.uint8)}
        ),
        r"the tokenizer in the checkpoint cannot be opened \(.*; its files: tokenizer.json\)",
    ),
    "another vocabulary": (
        lambda s: s["callbacks"]["RunState"]["facts"].update(
            tokenizer=pack(train_tokenizer(["别的字"], min_frequency=1))
        ),
        "the model has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHECKPOINTS)
def test_53_checkpoints_that_do_not_fit(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = write_run(tmp_path, STATIC)
    change, says = CHECKPOINTS[kind]
    resaved(path, change)
    with pytest.raises((CheckpointCorruptError, ValueError), match=says):
        restore(path)
    source = put(tmp_path, "in.tsv", [("a", "b")])
    assert main([f"checkpoint={path}", f"input={source}", f"output={tmp_path}/out.tsv"]) == 1
    told = capsys.readouterr().err
    assert len(told.splitlines()) <= 6 and re.search(says, told), told


@pytest.mark.parametrize("name", ["../out", "/etc/x", "..", "", "a/b", "a\\b", "\0"])
def test_files_of_a_tokenizer_stay_in_their_folder(name: str) -> None:
    with pytest.raises(ValueError, match="must be a plain name"):
        unpack({name: torch.zeros(1, dtype=torch.uint8)})


def test_modules_of_a_folder_stay_in_it(model_folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for name in ("../outside", str(outside), "link"):
        folder = tmp_path / "model"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(model_folder, folder)
        (folder / "link").symlink_to(outside)
        modules = [{"type": "sentence_transformers.models.Transformer", "path": name}]
        (folder / "modules.json").write_text(json.dumps(modules))
        with pytest.raises(ValueError, match=r"leads out of the folder; refused"):
            Pretrained(path=str(folder))
    (folder / "modules.json").write_text("[")
    with pytest.raises(ValueError, match=r"modules.json cannot be read"):
        Pretrained(path=str(folder))


def test_a_text_that_tsv_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"out.tsv: the text 'a\\tb' has a tab or a line end"):
        write_rows([{"text": "a\tb"}], tmp_path / "out.tsv")
    write_rows([{"text": 'say "x"', "n": 1}], tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_text() == 'text\tn\nsay "x"\t1\n'


ELSEWHERE = {
    1: "faults/test_bad_input.py::test_good_files_missing_files_and_folders",
    2: "faults/test_bad_input.py::test_good_files_missing_files_and_folders",
    19: "faults/test_bad_input.py::test_extra_columns_are_said_once",
    23: "faults/test_bad_input.py::test_text_stays_text",
    30: "data/test_pair_data.py::test_one_class_is_said_aloud",
    31: "losses/test_cosent.py::test_one_label_gives_zero_loss_and_zero_gradient",
    32: "metrics/test_spearman.py::test_constant_side_gives_nan_and_a_warning",
    33: "losses/test_base.py::test_a_batch_of_one",
    37: "faults/test_bad_input.py::test_long_lines_are_bounded",
    43: "faults/test_beyond_files.py::test_42_43_unknown_tasks_and_none",
    44: "gradients/test_fan_out.py::test_batch_without_any_task_gives_zero",
    46: "balancers/test_base.py::test_all_zero_gradients_give_ones",
    47: "run/test_commands.py::test_a_nan_row_is_skipped_by_all_ranks",
    48: "data/test_base.py::test_a_batch_that_ranks_cannot_share_is_an_error",
    49: "data/test_base.py::test_ranks_split_the_batches_of_one_process",
    50: "faults/test_faults.py::test_a_killed_loader_worker_is_an_error_not_a_hang",
    51: "faults/test_faults.py::test_an_output_folder_that_is_a_file",
    52: "faults/test_faults.py::test_full_disk_keeps_the_checkpoint_and_the_run_goes_on",
    54: "run/test_resume.py::test_resumed_run_ends_bitwise_equal",
    55: "run/test_commands.py::test_mistakes_are_told_shortly",
    56: "attention/test_scalings.py::test_no_key_and_one_key_are_finite",
    57: "optim/test_eg_step_size.py::test_bounds_hold",
}
"""Classes that have a test of their own in the tests of their subject."""


def test_every_class_has_a_test() -> None:
    own = {int(name[5:7]) for name in globals() if name[:5] == "test_" and name[5:7].isdigit()}
    assert own | test_bad_input.numbers() | set(ELSEWHERE) == set(range(1, 58))
    for place in ELSEWHERE.values():
        file, _, name = place.partition("::")
        assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), place
