"""Messages of commands: they always print, and everyday mistakes are one sentence.

    python -m pytest -q tests/test_command.py
"""

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, end_of, launch, linux

from pasta.run.command import command_line
from pasta.run.rows import write_rows
from pasta.toy import world

COMMANDS = [path for path in [*ROOT.glob("*.py"), *(ROOT / "pasta").rglob("*.py")]
            if "\nif __name__ ==" in path.read_text()]  # fmt: skip


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_every_command_runs_in_this_context(path):
    assert re.search(r"\nif __name__ == .*\n    with command_line\(\):\n", path.read_text())


def run(code, cwd, out=subprocess.PIPE, **env):
    """(exit status, standard output, standard error) of code inside command_line()."""
    (Path(cwd) / "code_.py").write_text(code)
    path = [f"import sys; sys.path.insert(0, {str(ROOT)!r})", "from pasta.run import command"]
    path += [f"command.OURS = __import__('pathlib').Path({str(cwd)!r}).resolve()"]
    code = "\n".join([*path, "with command.command_line():", "    import code_; code_.main()"])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(cwd)} | env,
        stdout=out,
        stderr=subprocess.PIPE,
    )
    return done.returncode, done.stdout, done.stderr.decode(errors="replace")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_a_text_that_the_terminal_lacks_is_printed_with_escapes(tmp_path, encoding):
    code = r"""
def main():
    import sys
    from tqdm import tqdm
    print("\u89c6 a\udce9")
    tqdm.write("\u9891 b\udce9")
    print("\u9891 c\udce9", file=sys.stderr)
    raise ValueError("\u9891 d\udce9")
"""
    status, out, err = run(code, tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
    shown = "\u89c6".encode("utf-8" if encoding == "utf-8" else "ascii", "backslashreplace")
    assert status == 1 and shown + rb" a\udce9" in out and rb" b\udce9" in out
    assert r" c\udce9" in err and r" d\udce9" in err.splitlines()[-1] and "Traceback" not in err


MISTAKES = {
    "raise ValueError('pairs.jsonl:3: bad; expected good')": "pairs.jsonl:3: bad; expected good",
    "raise FileNotFoundError('no model folder x')": "no model folder x",
    "raise RuntimeError('before any training')": "before any training",
    "open('absent.jsonl')": "absent.jsonl: No such file or directory",
    "open('\\x1b[2J\\u202eclip')": "\\x1b[2J\\u202eclip: No such file or directory",
    "raise ValueError('two\\n\\x9blines')": "two\n\\x9blines",
    "open('/proc/self/mem', 'x')": "/proc/self/mem: File exists",
    "import os; os.mkdir('x'); open('x')": "x: Is a directory",
    "raise SystemExit('--lr is 3')": "--lr is 3",
}


@pytest.mark.parametrize("code", MISTAKES)
def test_a_mistake_of_the_user_is_one_sentence(tmp_path, code):
    status, out, err = run(f"def main():\n    {code}\n", tmp_path)
    assert (status, out, err) == (1, b"", MISTAKES[code] + "\n")


@pytest.mark.parametrize("code", ["int('x')", "{}['x']", "None.x", "assert False, 'why'", "1 / 0",
                                  "import json; json.loads('{')"])  # fmt: skip
def test_a_bug_keeps_its_traceback(tmp_path, code):
    status, _, err = run(f"def main():\n    {code}\n", tmp_path)
    assert status == 1 and err.startswith("Traceback")


@linux
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_under_standard_output_is_one_sentence(tmp_path, flush, unbuffered):
    with open("/dev/full", "w") as full:
        code = f"def main():\n    print('x', flush={flush})\n"
        status, _, err = run(code, tmp_path, full, PYTHONUNBUFFERED=unbuffered)
    assert status == 1 and err.startswith(
        "standard output or a file cannot be written: No space left"
    )
    assert err.count("\n") == 1


@linux
@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_is_gone_is_one_sentence(tmp_path, flush, unbuffered):
    code = f"def main():\n    print('x', flush={flush})\n"
    read, write = os.pipe()
    os.close(read)
    status, _, err = run(code, tmp_path, write, PYTHONUNBUFFERED=unbuffered)
    os.close(write)
    assert status == 1 and err.startswith(
        "standard output or a file cannot be written: Broken pipe"
    )
    assert err.count("\n") == 1


def test_streams_may_be_closed_and_a_result_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with command_line():
        pass
    with pytest.raises(SystemExit, match="^3$"), command_line():
        raise SystemExit(3)


CHECKOUTS = ["sp ace", "a\nb", "quote'\"", "é视", "-dash", "\udce9", "$HOME"]


@linux
@pytest.mark.parametrize("name", CHECKOUTS)
def test_videos_are_read_in_a_checkout_with_any_name(tmp_path, toy_videos, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "pasta").symlink_to(ROOT / "pasta")
    code = f"""if True:
        import sys; sys.path.insert(0, {str(tmp_path / name)!a})
        import pasta.video.worker as worker
        worker.__file__ = sys.path[0] + "/pasta/video/worker.py"
        with worker.opened({str(toy_videos / "00000.avi")!r}, 3, 100) as (times, size, decode):
            print(len(times), size)"""
    run = [sys.executable, "-P", "-c", code]
    done = subprocess.run(run, cwd="/", capture_output=True, text=True)
    assert done.stdout == f"{world.N_FRAMES} ({world.SIDE}, {world.SIDE})\n", done.stderr


@pytest.mark.parametrize("script", ["train_dpo.py", "make_pairs.py", "evaluate.py"])
def test_a_script_finds_its_files_in_safe_path_mode_from_anywhere(script, tmp_path):
    (tmp_path / "pasta.py").write_text("1 / 0")  # is not imported
    command = [sys.executable, ROOT / script, "--help"]
    env = os.environ | {"PYTHONSAFEPATH": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "--device" in done.stdout, done.stderr


TOOLS = [
    "pasta.tools.export pairs --to trl in.jsonl out --n_frames -1",
    "pasta.tools.export pairs --to ms-swift in.jsonl out --max_pixels -602112",
    "pasta.tools.ask v.mp4 Why? --n_frames -5",
    "pasta.tools.ask v.mp4 Why? --max_pixels 99999999999",
    "pasta.tools.ask v.mp4 Why? --max_new_tokens -1",
    "pasta.tools.report run --pairs -2",
    "pasta.study.study --processes -1",
    "pasta.toy.pretrain folder --seed -1",
]


@pytest.mark.parametrize("command", TOOLS)
def test_a_number_that_a_tool_cannot_use_is_refused_with_its_range(command, monkeypatch, capsys):
    name, *words = command.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as stopped:
        import_module(name).main()
    *_, flag, value = words
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert f"{flag}: is {value}; expected 0 or more, at most {10**9}\n" in error


def mistakes(tmp_path, model, videos):
    """(script, flags, what the one sentence names, exit status) of everyday mistakes."""
    pair = {"video": "00000.avi", "mode": "spatial", "query": "Which?", "chosen": "a"}
    write_rows(tmp_path / "pairs.jsonl", [pair | {"rejected": "b"}])
    write_rows(tmp_path / "damaged.jsonl", [pair | {"rejected": "b"}, pair])
    write_rows(tmp_path / "queries.jsonl", [{"video": "00000.avi", "mode": "x", "query": "?"}])
    (tmp_path / "bench/json").mkdir(parents=True)
    (tmp_path / "bench/json/spatial.json").write_text("[")
    train = {"model": model, "pairs": tmp_path / "pairs.jsonl", "video_root": videos}
    make, score = {"responder": model, "videos": videos}, {"model": model}
    yield "train_dpo.py", train | {"pairs": tmp_path / "no.jsonl"}, "no pairs at .*no.jsonl", 1
    yield "train_dpo.py", train | {"pairs": tmp_path / "bench"}, "no pairs at .*bench/pairs", 1
    yield "train_dpo.py", train | {"pairs": tmp_path / "damaged.jsonl"}, "damaged.jsonl:2: ", 1
    yield "train_dpo.py", train | {"model": "no/such/model"}, "no model folder no/such/model", 1
    yield "train_dpo.py", train | {"model": tmp_path / "bench"}, "bench.*config.json", 1
    yield "train_dpo.py", train | {"out": tmp_path / "pairs.jsonl"}, "cannot write to .*pairs", 1
    yield "train_dpo.py", train | {"lr": "nan"}, "--lr is nan; expected 1e-12 or more, at most", 2
    yield "make_pairs.py", make | {"videos": tmp_path / "no"}, "there is no folder .*no; --vid", 1
    yield "make_pairs.py", make | {"responder": "/no/model"}, "no model folder /no/model", 1
    yield "make_pairs.py", make | {"queries": tmp_path / "queries.jsonl"}, "queries.jsonl:1: ", 1
    yield "make_pairs.py", make | {"queries": tmp_path / "q.jsonl"}, "q.jsonl: No such file", 1
    yield "make_pairs.py", make | {"keep": 2}, "--keep is 2.0; expected 0 or more, at most 1", 2
    yield "evaluate.py", score | {"data": tmp_path / "bench"}, "spatial.json: .* cannot read it", 1
    other = score | {"data": tmp_path / "no", "bench": "videomme"}
    yield "evaluate.py", other, "no videomme/test", 1
    yield "evaluate.py", score | {"seed": -1}, "--seed is -1; expected 0 or more, at most", 2


@pytest.mark.parametrize(
    ("k", "n"),
    [(k, 0) for k in (2, 4, 8)]
    + [pytest.param(k, 0, marks=pytest.mark.slow) for k in range(15) if k not in (2, 4, 8)]
    + [pytest.param(k, 1, marks=pytest.mark.slow) for k in (2, 8, 12)],
)  # all others under torchrun, too, would take minutes
def test_everyday_mistakes_end_in_one_sentence(tmp_path, tiny_folder, toy_videos, k, n):
    cases = [*mistakes(tmp_path, tiny_folder, toy_videos)]
    assert len(cases) == 15
    script, flags, text, status = cases[k]
    flags = {"out": tmp_path / "out", "device": "cpu"} | flags
    process = launch(script, n, flags, cold=k in (2, 8, 12))  # of each script one
    printed = end_of(process, 200)
    assert process.returncode == (1 if n else status)
    ours = re.split("torch[./]distributed", printed)[0]  # torchrun adds its own report
    assert "Traceback" not in ours and len(re.findall(text, ours)) == 1, printed


@pytest.fixture
def of_two_ranks(tmp_path):
    """A function: (exit status, what the ranks print) of a script on two ranks of torchrun."""

    def run(script, **flags):
        process = launch(script, 2, {"out": tmp_path / "out", "device": "cpu"} | flags)
        printed = end_of(process, 200)
        return process.returncode, re.split("torch[./]distributed", printed)[0]

    return run


def test_an_error_of_all_ranks_is_printed_once(of_two_ranks, tiny_folder):
    status, printed = of_two_ranks("make_pairs.py", responder=tiny_folder, videos="no")
    assert status == 1 and printed.count("there is no folder no;") == 1


def test_a_wrong_flag_is_printed_once(of_two_ranks):
    status, printed = of_two_ranks("make_pairs.py", lr=3)
    assert status == 1 and printed.count("usage:") == printed.count("unrecognized arguments") == 1


def test_an_error_of_rank_0_alone_gives_the_others_no_traceback(
    of_two_ranks, tmp_path, tiny_folder, toy_videos
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/other.txt").touch()
    settings = {"responder": tiny_folder, "videos": toy_videos, "dtype": "float32"}
    status, printed = of_two_ranks("make_pairs.py", **settings)
    assert status == 1 and printed.count("out holds other.txt, which make_pairs.py did not") == 1
    assert "Traceback" not in printed


def test_an_error_of_rank_1_alone_is_printed(of_two_ranks, tmp_path):
    (tmp_path / "alone.py").write_text(f"""if True:
        import os, sys, time; sys.path.insert(0, {str(ROOT)!r})
        from pasta.run.command import command_line
        with command_line():
            time.sleep(100 * (os.environ["RANK"] == "0"))
            raise SystemExit("rank 1 alone")""")
    status, printed = of_two_ranks(tmp_path / "alone.py")
    assert status == 1 and printed.count("rank 1 alone") == 1
