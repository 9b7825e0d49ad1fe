"""Names in data: none is read outside its root, and none decides where a file is written.

python -m pytest -q tests/test_paths.py
"""

import errno
import functools
import http.server
import json
import os
import shutil
import threading
import unicodedata

import pytest

import evaluate
import train_dpo
from pasta.benchmarks import tables
from pasta.datasets.read import read_pairs
from pasta.pairs import Pair
from pasta.run.rows import read_rows, write_rows
from pasta.sampling import uniform
from pasta.tools.export import WRITERS
from pasta.toy.files import write_videos
from pasta.video import VideoError, list_videos, read_frames
from pasta.video.find import find_video


def of_benchmark(name, root):
    return tables.video_fields(root.parent, (root.name,), name)[1]


READERS = [find_video, of_benchmark]
every_reader = pytest.mark.parametrize("find", READERS, ids=lambda f: f.__module__ + f.__name__)


@pytest.fixture
def root(tmp_path):
    """A root folder; next to it, a folder with a video and a folder of frames."""
    for folder in ("root", "outside/frames"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "outside/v.mp4").write_bytes(b"video")
    (tmp_path / "outside/frames/1.jpg").write_bytes(b"jpeg")
    return tmp_path / "root"


@every_reader
@pytest.mark.parametrize("name", ["../outside/v.mp4", "a/../../outside/v.mp4", "..", "a/../.."])
def test_a_name_with_dots_does_not_leave_the_root(root, find, name):
    with pytest.raises(ValueError, match="expected"):
        find(name, root)


def test_a_name_of_a_pair_may_be_absolute_and_one_of_a_benchmark_may_not(root):
    name = str(root.parent / "outside/v.mp4")
    assert find_video(name, root) == name  # make_pairs.py writes such names
    with pytest.raises(ValueError, match="is no path inside"):
        of_benchmark(name, root)


LINKS = {  # a name in data: the link that it leads through, and where to
    "v.mp4": ("v.mp4", "outside/v.mp4"),
    "deep/v.mp4": ("deep", "outside"),
    "frames": ("frames", "outside/frames"),
    "own": ("own/1.jpg", "outside/frames/1.jpg"),
}


@every_reader
@pytest.mark.parametrize("name", LINKS)
def test_a_link_that_leads_out_of_the_root_is_refused_with_both_ends(root, find, name):
    link, target = LINKS[name]
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(root.parent / target)
    with pytest.raises(ValueError, match=f"video '{name}' is a link to .*{target}.*; expected"):
        find(name, root)


@every_reader
def test_a_link_inside_the_root_is_followed_and_a_root_may_be_a_link_or_below_one(root, find):
    (root / "a").mkdir()
    (root / "a/v.mp4").write_bytes(b"video")
    (root / "b.mp4").symlink_to("a/v.mp4")
    assert os.path.samefile(find("b.mp4", root), root / "a/v.mp4")
    (root.parent / "outside/deep").mkdir()
    shutil.copy(root.parent / "outside/v.mp4", root.parent / "outside/deep")
    (root / "disk").symlink_to(root.parent / "outside")
    for folder in (root / "disk", root / "disk/deep"):
        assert os.path.samefile(find("v.mp4", folder), folder / "v.mp4")


NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
ON_DISK = {  # names of files below the root: {name in data: the file that it means}
    "v_abc.mkv": {"v_abc.mp4": "v_abc.mkv", "v_abc.avi": "v_abc.mkv", "v_abc": "v_abc.mkv"},
    "UP.MP4": {"UP": "UP.MP4", "UP.mp4": "UP.MP4", "UP.Mp4": "UP.MP4", "UP.mkv": "UP.MP4"},
    f"{NFD}.mp4": {f"{NFC}.mp4": f"{NFD}.mp4", NFC: f"{NFD}.mp4", f"{NFC}.webm": f"{NFD}.mp4"},
    f"{NFC}.MOV": {f"{NFD}.mov": f"{NFC}.MOV"},
    f"{NFD}/a/v.m4v": {f"{NFC}/a/v.mp4": f"{NFD}/a/v.m4v", f"{NFC}/a/v": f"{NFD}/a/v.m4v"},
    "frames/1.jpg": {"frames.mp4": "frames", "frames": "frames"},
    "bare": {"bare.mp4": "bare"},
    "v.mp4 v.MP4 v.mkv": {"v.mp4": "v.mp4", "v.MP4": "v.MP4", "v.mkv": "v.mkv", "v.Mkv": "v.mkv"},
    f"{NFC}.avi {NFD}.avi": {f"{NFC}.avi": f"{NFC}.avi", f"{NFD}.avi": f"{NFD}.avi"},
    "v.1.mp4 v.2.mp4": {"v.1": "v.1.mp4", "v.1.mkv": "v.1.mp4"},
    "w.mp4.part w.txt": {"w.mp4": None, "w": None},
    "aB.mp4": {"ab.mp4": None, "ab": None},  # YouTube's ids differ in the case of a letter
}


@every_reader
@pytest.mark.parametrize("names", ON_DISK)
def test_a_video_is_found_by_the_closest_name_on_disk(root, find, names):
    for name in names.split(" "):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"file")
    for name, file in ON_DISK[names].items():
        assert str(find(name, root)) == str(root / (file or name))


UNCLEAR = {  # names on disk: (name in data, the two that it may mean)
    "v.mkv v.webm": ("v.mp4", "'v.mkv' and 'v.webm'"),
    "v.mp4 v.mkv": ("v", "'v.mkv' and 'v.mp4'"),
    "v.MP4 v.Mp4": ("v.mp4", "'v.MP4' and 'v.Mp4'"),
    "v/1.jpg v.avi": ("v.mp4", "'v' and 'v.avi'"),
}


@every_reader
@pytest.mark.parametrize("names", UNCLEAR)
def test_a_name_that_fits_two_files_is_refused_with_both(root, find, names):
    for name in names.split(" "):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(b"file")
    name, both = UNCLEAR[names]
    with pytest.raises(ValueError, match=f"video is '{name}', and .* has {both}; expected one"):
        find(name, root)


def test_names_on_disk_are_listed_once_for_all_rows(root, monkeypatch):
    """Listing the folder for each row would take hours with 100,000 rows."""
    listed, listdir = [], os.listdir
    for i in range(3):
        (root / f"{i}.mkv").touch()
    monkeypatch.setattr(os, "listdir", lambda path: listed.append(path) or listdir(path))
    rows = [{"video": f"{i % 5}.mp4", "query": f"{i}?", "chosen": "A", "rejected": "B"}
            for i in range(40)]  # fmt: skip
    write_rows(root / "pairs.jsonl", rows)
    pairs = read_pairs(root / "pairs.jsonl")
    assert {pair.video for pair in pairs[:3]} == {str(root / f"{i}.mkv") for i in range(3)}
    assert len(listed) == 1
    (root / "3.webm").touch()  # a file of rows that is read later sees new files
    assert read_pairs(root / "pairs.jsonl")[3].video == str(root / "3.webm")


# Folders of videos: --videos is the user's own choice, so its links are followed


def tree(root, links):
    """Videos a.mp4, real/b.mp4 below the root, far/c.mp4, far/deep/d.mp4 outside; and links."""
    for path in ("root/a.mp4", "root/real/b.mp4", "far/c.mp4", "far/deep/d.mp4"):
        (root.parent / path).parent.mkdir(parents=True, exist_ok=True)
        (root.parent / path).write_bytes(b"video")
    for name, target in links.items():
        (root / name).symlink_to(target)


OWN = ["a.mp4", "real/b.mp4"]
FOLLOWED = {  # links: the names of the videos besides OWN
    "one": ({"part2": "../far"}, ["part2/c.mp4", "part2/deep/d.mp4"]),
    "two to one folder": ({"x": "../far", "y": "../far"}, ["x/c.mp4", "x/deep/d.mp4"]),
    "to a parent": ({"real/up": "..", "up": "."}, []),
    "to a real folder, sorted before it": ({"again": "real"}, []),
    "to a folder inside another link's": (
        {"a": "../far/deep", "b": "../far"}, ["a/d.mp4", "b/c.mp4"]),
    "to a link": ({"l": "../far/loop", "../far/loop": "../far"}, ["l/c.mp4", "l/deep/d.mp4"]),
    "to a file": ({"f.mp4": "../far/c.mp4"}, ["f.mp4"]),
}  # fmt: skip


@pytest.mark.parametrize("case", FOLLOWED)
def test_links_below_the_folder_of_videos_are_followed_each_folder_once(root, capsys, case):
    links, more = FOLLOWED[case]
    tree(root, links)
    assert list_videos(root) == sorted(root / name for name in OWN + more)
    assert not capsys.readouterr().err


def test_a_linked_folder_of_frames_is_a_video(root):
    (root / "frames").symlink_to("../outside/frames")
    assert list_videos(root) == [root / "frames"]


def test_what_cannot_be_read_is_named_and_counted(root, capsys, monkeypatch):
    tree(root, {"part2": "/nowhere", "gone.mp4": "nothing.mp4", "self": "self"})
    (root / "closed").mkdir()
    (root / "no.mp4").write_bytes(b"video")
    bad = os.fsdecode(b"caf\xe9.mp4")
    (root / bad).write_bytes(b"video")
    scandir, access = os.scandir, os.access  # as a user who may not read them: root may

    def closed(path):
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", closed)
    monkeypatch.setattr(os, "access", lambda x, how: "no.mp4" not in str(x) and access(x, how))
    videos = list_videos(root)
    # the last two are skipped with their reason when they are read
    assert videos == sorted(root / name for name in [*OWN, "gone.mp4", "no.mp4"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"6 paths below {root} cannot be read (")
    lost = ("closed", "part2", "gone.mp4", "self", "no.mp4", bad)
    assert all(repr(str(root / name)) in line for name in lost)


@pytest.fixture
def snapshot(tmp_path):
    """The root of a snapshot in the hub's cache, with links to its repository's blobs."""
    repo = tmp_path / "datasets--owner--name"
    root = repo / "snapshots/0123/videos"
    for folder in (root / "frames", repo / "blobs"):
        folder.mkdir(parents=True)
    (repo / "blobs/abc").write_bytes(b"file")
    (root / "v.mp4").symlink_to("../../../blobs/abc")
    (root / "frames/1.jpg").symlink_to("../../../../blobs/abc")
    return root


@every_reader
def test_a_snapshot_of_the_hub_is_read_through_links_into_its_own_repository(
    snapshot, tmp_path, find
):
    for name in ("v.mp4", "frames"):
        assert os.path.samefile(find(name, snapshot), snapshot / name)
    (tmp_path / "two/blobs").mkdir(parents=True)
    (tmp_path / "two/blobs/abc").write_bytes(b"file")
    (snapshot / "w.mp4").symlink_to(tmp_path / "two/blobs/abc")
    with pytest.raises(ValueError, match="is a link to"):
        find("w.mp4", snapshot)


# Files that name other files


@pytest.fixture
def asked(root):
    """(requests seen by a web server that has the outside video, the video's address)"""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            super().do_GET()

    handler = functools.partial(Handler, directory=str(root.parent / "outside"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield seen, f"http://127.0.0.1:{running.server_port}/00000.avi"
        running.shutdown()


NAMING = {
    "playlist": "#EXTM3U\n#EXTINF:5,\n{}\n#EXT-X-ENDLIST\n",
    "list": "ffconcat version 1.0\nfile '{}'\nduration 2\n",
    "manifest": '<?xml version="1.0"?><MPD type="static"><BaseURL>{}</BaseURL></MPD>',
    "reference": "[Reference]\nRef1={}\n",
    "address": "{}",
}


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("where", ["url", "absolute", "relative"])
def test_a_file_that_names_another_is_not_a_video_and_connects_to_nothing(root, asked, kind, where):
    write_videos(root.parent / "outside", 1, seed=0)
    outside = root.parent / "outside/00000.avi"
    named = {"url": asked[1], "absolute": outside, "relative": "../outside/00000.avi"}[where]
    (root / "v.mp4").write_text(NAMING[kind].format(named))
    with pytest.raises(VideoError):
        read_frames(root / "v.mp4", sample=lambda times: uniform(times, n=2))
    assert not asked[0]


# Names that become files


ON_CPU = {"device": "cpu", "dtype": "float32"}
HOSTILE = ["../../up", "a/b", "..", "", ".", "nul\0", "x" * 300, "$(touch pwned)", "a\nb"]


def files_in(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("to", WRITERS)
def test_no_id_of_a_pair_decides_where_an_export_is_written(tmp_path, toy_videos, to):
    ids = [*HOSTILE, str(tmp_path / "absolute")]
    texts = {"mode": "spatial", "query": "Is it left?", "chosen": "Yes.", "rejected": "No."}
    pairs = [Pair(id_, str(toy_videos / "00000.avi"), **texts) for id_ in ids]
    out = tmp_path / "deep/er" / ("out.jsonl" if to == "ms-swift" else "out")
    WRITERS[to](pairs, out, 2, 0)
    assert all(path.startswith("deep/er/out") for path in files_in(tmp_path))


def test_no_id_of_an_item_decides_where_answers_are_written(tmp_path, toy_videos, tiny_folder):
    ids = [id_ for id_ in HOSTILE if id_.strip()] + [str(tmp_path / "absolute")]
    row = {"video": str(toy_videos / "00000.avi"), "mode": "spatial", "kind": "question"}
    rows = [row | {"id": id_, "query": f"Is it {i}?"} for i, id_ in enumerate(ids)]
    write_rows(tmp_path / "data/items.jsonl", rows)
    settings = ON_CPU | {"model": str(tiny_folder), "data": tmp_path / "data"}
    settings |= {"out": tmp_path / "out", "max_pixels": 0}
    evaluate.main(evaluate.EvalConfig(bench="adversarial", **settings))
    found = files_in(tmp_path) - {"data/items.jsonl"}
    assert found and all(path.startswith("out/adversarial/") for path in found)
    scored = read_rows(tmp_path / "out/adversarial/tiny/scored.jsonl")
    assert {row["id"] for row in scored} == set(ids)


def test_no_id_of_a_pair_decides_where_a_training_writes(
    tmp_path, toy_pairs, toy_videos, tiny_folder
):
    rows = read_rows(toy_pairs)
    names = [name for name in HOSTILE if name.strip()]
    write_rows(toy_pairs, [row | {"id": id_} for row, id_ in zip(rows, names, strict=False)])
    settings = ON_CPU | {"model": str(tiny_folder), "video_root": toy_videos, "pairs": toy_pairs}
    settings |= {"out": tmp_path / "out", "workers": 0, "lora_rank": 2}
    train_dpo.main(train_dpo.TrainConfig(**settings))
    by_the_pairs = {"pairs/pairs.jsonl", "pairs/reference.jsonl"}
    found = {path for path in files_in(tmp_path) if not path.startswith("out/")}
    assert by_the_pairs <= found and all(path.startswith("pairs/") for path in found)
    assert json.loads((tmp_path / "out/config.json").read_text())
