"""The first half of docs/walkthrough.md: from a video file to a packed row.

Each function is one cell of the page: its docstring is the prose, its body the code that is shown
and run, and what it returns is there, under the same names, for the cells after it.
"""

import json
from dataclasses import asdict
from functools import partial

import numpy as np

from pasta.adversaries import ADVERSARIES, SPARSE_FPS
from pasta.datasets import read_pairs
from pasta.disk.rows import write_rows
from pasta.judge import judge_by_rules
from pasta.packs import pack_responses
from pasta.pairs import Pair, pair_id
from pasta.prompts import misled_prompt
from pasta.toy import world
from pasta.toy.base import make_folder
from pasta.toy.drawings import aligned, columns_of, mask_picture, picture, side_by_side, spelled
from pasta.toy.files import write_avi
from pasta.updates import by_video
from pasta.video import at_fps, read_frames, uniform
from pasta.vlm import load_vlm


def drawn(folder):
    """A video file, and which of its frames.

    `pasta/toy/world.py`: `draw_video`, `questions` · `pasta/toy/files.py`: `write_avi`

    A video of the toy world: two circles come and go, one after the other, and a square is on
    screen at a cut between two scenes. It becomes an ordinary file. The world knows the truth, so
    a question comes with its right answer and its wrong one.
    """
    rng = np.random.default_rng(58)  # in this video a red circle is clearly on one side
    video = world.draw_video(rng)
    path = folder / "clip.avi"
    write_avi(path, world.render(video), fps=world.FPS)

    asked = {question.query: question for question in world.questions(video, rng)}
    question = asked["Is the red circle left or right?"]
    print("query:", question.query)
    print("right:", question.answer)
    print("wrong:", question.wrong)
    return {"path": path, "question": question}


def sampled(path):
    """`pasta/video.py`: `read_frames`, `uniform`, `at_fps`

    A model sees a few frames of a video. Which ones is decided from their times alone, before
    anything is decoded. `uniform` spreads n frames evenly from the first to the last, and is what
    training and evaluation see. `at_fps` takes the frame on screen at 0, 1, 2, ... seconds, which
    is how sparsely an adversarial response sees the video.
    """
    _, every = read_frames(path, sample=lambda seconds: np.arange(len(seconds)))
    print(f"the file has {len(every)} frames, from {every[0]:.4f} s to {every[-1]:.4f} s")
    print("uniform, 12 frames:", uniform(every, n=12))
    print("sparse, 1 a second:", at_fps(every, SPARSE_FPS, max_frames=12))

    read = partial(read_frames, sample=partial(uniform, n=12))
    frames, timestamps = read(path)
    print("frames (F, H, W, 3):", frames.shape, frames.dtype)
    print("timestamps (F,), seconds:", timestamps.shape, timestamps.dtype)
    return {"read": read, "frames": frames, "timestamps": timestamps}


def mirrored(frames):
    """The adversary: where a rejected response comes from.

    `pasta/adversaries.py`: `ADVERSARIES`, `mirror`

    VideoPASTA needs nobody to write wrong answers. For each of three failure modes, spatial,
    temporal and cross_frame, an adversary misleads the model, which then says something wrong in
    just that way. One kind of it, *frames*, breaks the video itself; a spatial one mirrors it, and
    what was left is right. Below is frame 6, before and after: a red circle and a white square.
    """
    adversary = ADVERSARIES["spatial"]
    print("corruptions:", ", ".join(adversary.corruptions), "\n")
    mirror = adversary.corruptions["mirror"]
    broken = mirror(frames, rng=None, other=None)  # some draw lots, some splice another video in
    print(side_by_side(picture(frames[6]), picture(broken[6])))
    print("\ncolumns of the red circle, before:", columns_of(frames[6], "red"))
    print("columns of the red circle, after: ", columns_of(broken[6], "red"))


def misled(question):
    """`pasta/prompts.py`: `misled_prompt`

    The other kind, *prompt*, leaves the video alone and puts a false premise before the query.
    """
    print(misled_prompt("spatial", "mirrored", question.query))


def judged(question):
    """`pasta/judge.py`: `judge_by_rules`

    In `make_pairs.py` a trained model answers now: asked plainly, with the whole video, it gives
    the preferred response; misled, an adversarial one. Ours is untrained and has nothing to say,
    so the world's two answers stand in for its: the right one, and what one would say of the
    mirrored video. A judge keeps the two only if they contradict each other in what the mode is
    about, here in where things are.
    """
    preferred = {"response": question.answer, "finished": True}
    adversarial = {"response": question.wrong, "finished": True}
    print(judge_by_rules("spatial", question.query, preferred, adversarial))


def paired(folder, question):
    """`pasta/pairs.py`: `Pair`, `pair_id` · `pasta/disk/rows.py`: `write_rows`
    · `pasta/datasets/__init__.py`: `read_pairs`

    What is kept becomes a row of `pairs.jsonl`, there in one line. This file is the seam between
    the two halves of the project: pairs that others made enter here, too.
    """
    said = {"video": "clip.avi", "mode": "spatial", "query": question.query}
    said |= {"chosen": question.answer, "rejected": question.wrong}
    write_rows(folder / "pairs.jsonl", [asdict(Pair(pair_id(**said), **said))])
    print(json.dumps(json.loads((folder / "pairs.jsonl").read_text()), indent=2))

    (pair,) = read_pairs(folder / "pairs.jsonl")  # its video is now a path that can be opened
    return {"pair": pair}


def prepared(folder, frames, timestamps):
    """Frames to pixels.

    `pasta/vlm.py`: `load_vlm` · `pasta/processor.py`: `Processor.fit`, `Processor.prepare`
    · `pasta/families/qwen.py`: `qwen_fit`, `qwen_prepare`

    The model is written as a folder and loaded like any checkpoint. `fit` says to which size
    frames are resized: both sides multiples of a patch times the merge, 14 * 2. `prepare` cuts the
    video into patches, t * h * w of them in time, height and width, each 4 frames x 14 x 14 pixels
    (2 frames in the released Qwens), makes a row of each, and scales bytes to -1..1. The vision
    tower will merge 2 x 2 patches into one token. A released Qwen2.5-VL has, for 32 frames of 364
    x 644 pixels, 16 * 26 * 46 / 4 = 4784 tokens.
    """
    make_folder(folder / "model", seed=0)
    vlm = load_vlm(folder / "model")
    processor = vlm.processor
    print("56 x 56 stays", processor.fit(12, 56, 56))
    print("360 x 640 would become", processor.fit(12, 360, 640))

    inputs = processor.prepare(frames, timestamps)
    t, h, w = inputs.grid
    print("pixel_values:", tuple(inputs.pixel_values.shape), inputs.pixel_values.dtype)
    print(f"rows: {t} * {h} * {w} = {t * h * w}, of 3 * 4 * 14 * 14 = {3 * 4 * 14 * 14} numbers")
    print(f"n_tokens: {t} * {h} * {w} / 4 = {inputs.n_tokens}")
    byte, value = int(frames[0, 0, 0, 0]), inputs.pixel_values[0, 0]
    print(f"the first byte: ({byte} - 127.5) / 127.5 = {value:.4f}")
    return {"vlm": vlm, "processor": processor, "inputs": inputs}


def tokenized(processor, inputs, pair):
    """Text to token ids.

    `pasta/processor.py`: `Processor.prefix_ids`, `Processor.query_ids`, `Processor.response_ids`

    The chat template makes a prompt of video and query, with one placeholder for the video; it is
    repeated until there is one for each visual token. The prompt is cut after the last of them.
    What comes before is the *prefix*, the same for every query about the video; what comes after
    belongs to a query. A response ends with the token that ends a turn: when to stop is learnt,
    too. (The toy's template has no roles; a real one writes "user" and so on here.)
    """
    print("prefix_ids:\n" + spelled(processor, processor.prefix_ids(inputs)))
    print("query_ids:\n" + spelled(processor, processor.query_ids(pair.query)))
    print("response_ids, chosen:\n" + spelled(processor, processor.response_ids(pair.chosen)))
    print("response_ids, rejected:\n" + spelled(processor, processor.response_ids(pair.rejected)))


def placed(processor, inputs):
    """Positions.

    `pasta/processor.py`: `Processor.positions` · `pasta/families/qwen.py`: `qwen_positions`

    In Qwen2.5-VL a token has three positions (M-RoPE): time, height, width. In text all three
    count on together. Those of a video, here after 2 tokens of text, tell when and where: time
    grows with the seconds, height is 2 + row, width 2 + column of the merged patches. The text
    after a video begins above the largest of all three.
    """
    prefix = processor.prefix_ids(inputs)
    positions = processor.positions(prefix, inputs)
    print("positions (3, P):", tuple(positions.shape), positions.dtype)
    print(aligned(*zip(("time", "height", "width"), positions, strict=True)))
    for i in range(inputs.grid[0]):  # 1 token per second in this checkpoint
        time = positions[0, 2 + 4 * i]
        print(f"time of grid {i}: 2 + floor({i} * {inputs.seconds_per_grid:.3f}) = {time}")
    print("what follows begins at", int(positions.max()) + 1)


def packed(processor, inputs, pair):
    """One row: the pack.

    `pasta/updates.py`: `by_video` · `pasta/packs.py`: `pack_responses`, `segment_of`, `pack`

    DPO needs log pi of two responses to one video. In two rows the video would be computed twice,
    and a real one has thousands of tokens where a response has about a hundred. So all responses
    to one video share a row: the prefix once, then a *segment* of query and response for each.
    Every segment begins at the position after the prefix, as if no other were there; else the
    second response would be scored for standing farther from the video.
    """
    (group,) = by_video([pair])
    pack, where = pack_responses(processor, inputs, group.texts())
    print("lengths (prefix, segments):", pack.lengths, "  row (L,):", tuple(pack.input_ids.shape))
    print("segment of chosen, of rejected:", where)

    time = pack.position_ids[0].split(pack.lengths)
    print(aligned(("time, prefix", time[0]), ("segment 0", time[1]), ("segment 1", time[2])))
    return {"group": group, "pack": pack, "where": where}


def kept(processor, pack):
    """Only the tokens of responses are scored, each from the logits of the token before it: `keep`
    has the places of those in the row, `targets` what must follow there, and `owner` whose it is.
    Read back as text, that is the two responses and nothing else.
    """
    print(aligned(("keep", pack.keep), ("owner", pack.owner)))
    print("tokens at keep:\n" + spelled(processor, pack.input_ids[pack.keep]))
    print("targets:\n" + spelled(processor, pack.targets))
    print("scored tokens of each segment:", pack.response_lengths.tolist())


def masked(processor, pack):
    """`pasta/attention.py`: `shared_prefix_attention`, `dense_mask`

    Each line is a token, each column the same tokens in the same order, each # what the line's
    token sees: itself and those before it, in the prefix and in its own segment. No segment sees
    another. The mask is made for you to look at; the model calls attention once for the prefix and
    once for each segment, which gives the same without any L x L tensor. (Of the video's tokens one
    is drawn.)
    """
    print(mask_picture(processor, pack))


CELLS = (
    (drawn, sampled),
    (mirrored, misled, judged, paired),
    (prepared,),
    (tokenized,),
    (placed,),
    (packed, kept, masked),
)
