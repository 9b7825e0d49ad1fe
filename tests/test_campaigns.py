"""The short forms of the campaigns, whose long forms stand in docs/promises.md.

    python -m pytest -q tests/test_campaigns.py
"""

from campaigns.decode import CLIPS, campaign
from campaigns.spoil import KINDS


def test_damaged_videos_are_decoded_as_ffmpeg_does_or_refused(tmp_path):
    fates, wrong = campaign(tmp_path, n=8 * len(KINDS), seed=1)
    assert not wrong
    assert sum(map(sum, (n.values() for n in fates.values()))) == 8 * len(KINDS) + len(CLIPS) + 1
    assert set(fates["none"]) == {"read"}  # good clips are all read
    assert set(fates["page"]) == set(fates["empty"]) == {"refused"}
    assert sum(n["read"] for n in fates.values()) > len(CLIPS) + 2 * len(KINDS)
