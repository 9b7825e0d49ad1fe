"""The sections of docs/miniature.md: what is compared, and the words around it."""

HEAD = """\
# The paper in miniature

The paper's tables need GPUs and weights; its claims can be tested by anyone. Here a tiny Video-LLM
of the real transformers class, in a world of coloured shapes whose truth is known, goes through
pasta's whole pipeline, and every claim is measured, for or against.

`python -m pasta.study.study` makes all of it anew, in less than 100 minutes on two cores (killed,
it goes on; `--quick` takes two seeds, and less than 15). `python -m pasta.study.page` writes this
page from `docs/miniature/results.jsonl` alone.

* Every seed draws its own unlabelled videos, pairs and order of training, and is asked its own
  benchmark of 900 questions, whose two answers are right equally often. A score is the mean over
  questions behind letters, as in MVBench, and the same asked freely. Three base models, trained
  from different seeds, are used in turn. The main tables take five seeds, all else three, each base
  once.
* Queries are written by somebody who knows what is in a video, as the paper's asker, five times the
  size of the model, does better than the model itself. No answer comes from the truth.
* Settings were chosen in the world of the README's first command, whose model, videos and benchmark
  are not among those here; the weight in `rpo`, the passes in Table 2 and the arm `mistaken` with
  the first two bases, on videos and a benchmark of other seeds (900, 901).
* Numbers are percent, means over seeds with the 95 % interval of Student's t over seeds; gains are
  paired, seed by seed.
* `minutes`: of one seed on one CPU thread, to make the pairs + to train and to examine.

A claim of more *holds* when the whole interval is on its side, *does not hold* when all of it is
on the other, else it is *not decided*. One of no loss, of nothing learnt or of chance *holds*
unless the whole interval speaks against it.
"""
TABLES = [  # title, what it says, picture, family, arms
    (
        "Table 1: the base, fine-tuning, generic DPO, VideoPASTA",
        """\
* `sft`: `--objective sft` on the chosen responses of the same pairs.
* `sft_preferred`: the same on the model's own preferred answers, unselected, as in the paper.
* `generic`: DPO without adversaries, in the spirit of LLaVA-Hound and TPO. r+ is the model's greedy
  answer, r- what it says of the same frames and query when drawn at temperature 1; the judge drops
  what does not contradict, and nothing else is selected or evened out.
""",
        "table1",
        "qwen",
        ("sft", "sft_preferred", "generic", "videopasta"),
    ),
    (
        "Table 2: one mode alone",
        """\
Equally many pairs in each row, drawn from those of `videopasta` and seen four times each: as many
updates as there.
""",
        "table2",
        "qwen",
        ("only_spatial", "only_temporal", "only_cross_frame", "equal"),
    ),
    (
        "Model agnostic: a tiny LLaVA-OneVision",
        "SigLIP sees 16 frames one by one, and the language model has no M-RoPE. One base model,\n"
        "and the same settings.\n",
        "onevision",
        "onevision",
        ("sft", "generic", "rpo", "videopasta"),
    ),
]
FACTORS = [  # title, what the arms are, arms
    (
        "What misleads",
        "False premises alone, broken frames alone, both in turn.",
        ("prompt", "frames", "videopasta"),
    ),
    (
        "How many adversarial responses",
        "K = 1, 2, 3. Of one alone there are few pairs: `contrast` takes two different answers.",
        ("k1", "k2", "videopasta"),
    ),
    (
        "Which pairs stay",
        """\
`paper`: all that the judge keeps. `none`: the same, evened out by `--balance`. `flip`: after
`--select flip`. `unbalanced`: `contrast` without `--balance`. `unjudged`: `paper`, and what the
judge dropped.
""",
        ("paper", "none", "flip", "unbalanced", "unjudged", "videopasta"),
    ),
    (
        "What the rejected responses tell",
        "`idle`: each pair with the rejected response of another pair of its mode.",
        ("idle", "videopasta"),
    ),
    (
        "What the model ranks rightly before",
        """\
`known`: the pairs of `videopasta` whose chosen response the model finds likelier than the rejected
one before it is trained. `mistaken`: the others. `sft_mistaken`: fine-tuning on what these chose.
""",
        ("known", "mistaken", "sft_mistaken", "videopasta"),
    ),
    (
        "An SFT term beside DPO",
        "`rpo`: `--sft_weight 5`.",
        ("sft", "rpo", "videopasta"),
    ),
    (
        "What the preferred answers see",
        "`sparse`: no more frames than 1 a second, as the adversaries do.",
        ("sparse", "videopasta"),
    ),
    (
        "How many pairs",
        "Drawn from those of `videopasta`, as many of each mode.",
        ("n100", "n300", "n1000", "videopasta"),
    ),
    (
        "Beta",
        "3 in `videopasta`.",
        ("beta0.1", "beta1", "videopasta", "beta10"),
    ),
    (
        "Mode weights",
        "3 for the mode that is named and 1 for the others; all 1 in `videopasta`.",
        ("videopasta", "weight_spatial", "weight_temporal", "weight_cross_frame"),
    ),
]
NOTES = {
    "adversarial": """\
Of a *question* the premise is false, and the right act is to say so; of *options* none is right but
"None of the above". No pair is about that. How often a base model sees either depends on its seed,
hence the wide intervals; gains are paired.
""",
    "curve": "Every update of `videopasta`: thin lines for each seed, thick ones for their mean.\n",
    "factors": "One thing is changed at a time. All else is as in `videopasta`.\n",
    "causes": """\
What moves an answer? Of the right answer against the wrong one, on questions as in the benchmark,
about other videos,

    log-odds = sight + habit   where the right answer is the usual one ("left", "first", "kept")
               sight - habit   where it is the other one

in the mean. An answer is right on both when sight is above the size of habit.

This is why fine-tuning on the chosen responses gains more than DPO on the pairs. DPO wants every
pair to move by as much from where the reference stands, whether that had it right or wrong. Chosen
names each side equally often, so what would move the habit cancels, and sight alone grows.
Fine-tuning pulls hardest where chosen is unlikely, which is where the habit is against it.

If so, DPO must lose the habit on those pairs alone that the model ranks wrongly before it is
trained. That is `mistaken`: a fraction of the pairs, the habit all but gone, sight as it was, and
about as many right answers as fine-tuning. It refuses false premises as the base does, which
fine-tuning unlearns (Table 6).
""",
    "side effects": """\
Questions that no pair is about, and how far the policy is from its reference. Of presence ("Is
there a ...?") sight and habit are as above, "yes" the usual answer. *Denying* is to say "There is
no ..." of a thing that is there, asked about as in the benchmark.

`videopasta` loses presence. On the tiny Qwen that is habit, not sight: the policy says "no" more
readily, which also helps it to refuse false premises (Table 6). Yet no response of a pair denies
anything. Where does it come from? DPO is content when the rejected response is unlikely, whatever
takes its place. The chosen one begins with the same words, so what pushes down the one holds back
the other (chosen gains little, Figure 4), and part of what rejected loses goes to denying, which
begins otherwise: the displacement of arXiv 2410.08847.

If so, what holds chosen up must keep presence. That is `rpo`, an SFT term beside DPO: it denies no
more than the base, keeps presence better than `videopasta`, and gains no less. `sft`, which pushes
nothing down, denies less than the base.

Colours are another matter, not explained: fine-tuning loses as much of them.
""",
    "controls": """\
`shuffled`: each pair with the video of another one. And the benchmark asked about black frames.
""",
    "commands": "Of `videopasta`, first seed. Every row of results.jsonl has its own.\n",
}
