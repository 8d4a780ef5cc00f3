"""Writes next-run-croniter.tsv: PyPI `croniter`'s answers. See README.md."""

from datetime import datetime, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

from croniter import croniter

DATA = Path(__file__).parent.parent
ANSWERS = 4


def deltas(expression, zone, start):
    try:
        # Its own switch for what crontab does where a day field starts with a star.
        runs = croniter(
            expression,
            start.astimezone(zone),
            second_at_beginning=True,
            implement_cron_bug=True,
        )
        at, found = start.timestamp(), []
        for _ in range(ANSWERS):
            following = runs.get_next(float)
            seconds = round(following - at)
            found.append(f"{seconds // 60}" if seconds % 60 == 0 else f"{seconds}s")
            at = following
        return ",".join(found)
    except Exception as error:  # Whatever it is, the test sees that there is no answer.
        return f"! {type(error).__name__}"


zones = []
for line in (DATA / "next-run-starts.tsv").read_text().splitlines():
    name, *starts = line.split("\t")
    moments = [datetime.strptime(at, "%Y-%m-%dT%H:%MZ").replace(tzinfo=timezone.utc) for at in starts]
    zones.append((ZoneInfo(name), moments))
with (DATA / "next-run-croniter.tsv").open("w") as out:
    for index, expression in enumerate((DATA / "next-run-expressions.txt").read_text().splitlines()):
        cells = [
            deltas(expression, zone, starts[(2 * index + turn) % len(starts)])
            for zone, starts in zones
            for turn in range(2)
        ]
        out.write("\t".join(cells) + "\n")
