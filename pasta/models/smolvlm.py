"""SmolVLM2: each frame is a square image of 64 tokens (81 in the 2.2B model), after its time.

    You are provided the following series of two frames from a 0:00:03 [H:MM:SS] video.

    Frame from 00:00:<image tokens>
    Frame from 00:03:<image tokens>

Departs from transformers: the length of the video is the time of the last frame that is shown.
"""

from datetime import timedelta
from functools import partial

from pasta.models import family
from pasta.models.fixed import fixed_fit

IMAGE = "<image>"
FRAME = "<fake_token_around_image>"
MARK = "<global-img>"  # a token that no other part of a prompt has
# transformers uses this template for videos, whatever the checkpoint's is.
TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% else %}{{ 'VIDEO\n\n' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
).replace("VIDEO", MARK)
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
fifteen sixteen seventeen eighteen nineteen""".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def smolvlm_family(config, preprocessor, max_pixels):
    """The Family of SmolVLM2; max_pixels has no effect."""
    given = family.given_settings(preprocessor, resample=1)  # Lanczos
    edge, side = family.whole(given, "size.longest_edge", "max_image_size.longest_edge").values()
    settings = {"edge": min(edge, 4096), "side": side}
    settings |= family.numbers(given, "image_mean", "image_std", "rescale_factor")
    vision = family.whole(config.get("vision_config", {}), "image_size", "patch_size")
    (scale,) = family.whole(config, "scale_factor").values()
    (token_id,) = family.whole(config, "image_token_id", least=0, most=family.HUGE).values()
    n_tokens = (vision["image_size"] // vision["patch_size"]) ** 2 // scale**2
    return family.Family(
        model_type=config["model_type"],
        placeholder=MARK,
        token=IMAGE,
        fit=partial(fixed_fit, (side, side)),
        prepare=partial(smolvlm_prepare, settings, n_tokens),
        positions=partial(family.plain_positions, token_id),
        feature_kwargs=as_one_batch,
        video_text=partial(timed_frames, n_tokens),
        encoder="image",
        template=TEMPLATE,
        lead=" ",
    )


def smolvlm_prepare(settings, n_tokens, frames, timestamps):
    """VideoInputs with pixel_values (F, 3, side, side); frames are resized twice."""
    seconds, (edge, side) = family.checked(frames, timestamps), (settings["edge"], settings["side"])
    height, width = frames.shape[1:3]
    shorter = int(edge / (max(height, width) / min(height, width)))
    shorter = max(shorter + shorter % 2, 1)
    size = (edge, shorter) if height > width else (shorter, edge)
    first = family.resized(frames, size, "lanczos")
    video = family.resized(first.permute(0, 2, 3, 1).numpy(), (side, side), "lanczos")
    pixels = family.normalised(video.flatten(2), settings).unflatten(2, video.shape[2:])
    n, span = len(frames), float(seconds[-1] - seconds[0])
    times = tuple(seconds.tolist())
    return family.VideoInputs(pixels, (n, 1, 1), span / max(n - 1, 1), n * n_tokens, times)


def as_one_batch(inputs):
    return {"pixel_values": inputs.pixel_values[None]}


def timed_frames(n_tokens, inputs):
    """The text of a video, up to its last special token; the template adds the empty line."""
    length = timedelta(seconds=int(inputs.times[-1]))
    text = f"You are provided the following series of {in_words(len(inputs.times))} frames"
    text += f" from a {length} [H:MM:SS] video.\n"
    for time in inputs.times:
        minutes, seconds = divmod(int(time), 60)
        text += f"\nFrame from {minutes:02d}:{seconds:02d}:{FRAME}{MARK}{IMAGE * n_tokens}{FRAME}"
    return text


def in_words(n):
    """A number below 1000 in words: 'one hundred and twenty-three'."""
    if n < 20:
        return SMALL[n]
    if n < 100:
        return TENS[n // 10 - 2] + (f"-{SMALL[n % 10]}" if n % 10 else "")
    return f"{SMALL[n // 100]} hundred" + (f" and {in_words(n % 100)}" if n % 100 else "")
