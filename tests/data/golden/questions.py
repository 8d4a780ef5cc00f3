"""Writes next-run-expressions.txt and next-run-starts.tsv: what the two references are asked.

Always writes the same: the random numbers have a fixed seed, the starts lie in the past.
"""

import random
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

DATA = Path(__file__).parent.parent
COUNT = 2200
# The zone, and the year whose changes of the clock it is asked about.
ZONES = [
    ("Europe/Berlin", 2024),
    ("America/New_York", 2024),
    ("Australia/Lord_Howe", 2023),  # Half an hour.
    ("America/Sao_Paulo", 2018),  # At midnight: 00:00 does not exist.
    ("Pacific/Apia", 2020),
    ("Asia/Kathmandu", 2024),  # No change, and +05:45.
]
MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC".split()
DAYS = "SUN MON TUE WED THU FRI SAT".split()

pick = random.Random(6)


def part(low, high, steps):
    """One element of a list, and the values it stands for."""
    kind = pick.random()
    if kind < 0.55:
        value = pick.randint(low, high)
        return str(value), {value}
    # Never `5-5`, which `croniter` takes for the whole field.
    first, last = sorted(pick.sample(range(low, high + 1), 2))
    if kind < 0.80:
        return f"{first}-{last}", set(range(first, last + 1))
    step = pick.choice(steps)
    if kind < 0.92:
        return f"{first}-{last}/{step}", set(range(first, last + 1, step))
    return f"*/{step}", set(range(low, high + 1, step))


def listed(low, high, steps):
    """No value twice: `cron-parser` refuses that."""
    texts, values = [], set()
    for _ in range(pick.choice([1, 1, 1, 2, 3])):
        text, more = part(low, high, steps)
        if not values & more:
            texts.append(text)
            values |= more
    return ",".join(texts)


def minute():
    kind = pick.random()
    if kind < 0.15:
        return "*"
    if kind < 0.35:
        return f"*/{pick.choice([2, 5, 7, 10, 15, 20, 25, 30])}"
    if kind < 0.65:
        return str(pick.choice([0, 0, 5, 15, 30, 30, 45, 59]))
    return listed(0, 59, [3, 5, 10, 20])


def hour():
    kind = pick.random()
    if kind < 0.22:
        return "*"
    if kind < 0.34:
        return f"*/{pick.choice([2, 3, 4, 6, 8, 12])}"
    if kind < 0.66:
        return str(pick.choice([0, 0, 1, 1, 2, 2, 2, 3, 3, 4]))  # Where clocks are changed.
    if kind < 0.80:
        return pick.choice(["0-3", "1-2", "2-4", "0,2", "1,2,3", "2,14", "0-23", "23,0,1"])
    return listed(0, 23, [2, 3, 5])


def day_of_month():
    kind = pick.random()
    if kind < 0.68:
        return "*"
    if kind < 0.75:
        return f"*/{pick.choice([2, 3, 5, 10])}"
    if kind < 0.85:
        return pick.choice(["29", "30", "31", "1,15", "28-31", "4", "25-31"])
    return listed(1, 31, [2, 5, 7])


def month():
    kind = pick.random()
    if kind < 0.78:
        return "*"
    if kind < 0.83:
        return f"*/{pick.choice([2, 3, 4, 6])}"
    if kind < 0.90:
        return pick.choice([name.lower() for name in MONTHS] + MONTHS)
    if kind < 0.94:
        first, last = sorted(pick.sample(range(12), 2))
        return f"{MONTHS[first]}-{MONTHS[last]}"
    return listed(1, 12, [2, 3])


def day_of_week():
    kind = pick.random()
    if kind < 0.62:
        return "*"
    if kind < 0.66:
        return f"*/{pick.choice([2, 3])}"
    if kind < 0.72:
        return pick.choice(["7", "0", "5-7", "0,6", "6,7", "1-5", "1-7", "0-6"])
    if kind < 0.80:
        return pick.choice(DAYS + [name.lower() for name in DAYS])
    if kind < 0.86:
        first, last = sorted(pick.sample(range(7), 2))
        return f"{DAYS[first]}-{DAYS[last]}"
    return listed(0, 6, [2, 3])


def second():
    return pick.choice(["0", "15", "*/20", "0,30", "10-12", "59", "*"])


def expressions():
    found = ["@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually"]
    while len(found) < COUNT:
        fields = [minute(), hour(), day_of_month(), month(), day_of_week()]
        if pick.random() < 0.06:
            fields.insert(0, second())
        text = " ".join(fields)
        if text not in found:
            found.append(text)
    return found


def changes(zone, year):
    """The instants of the year at which the zone's clock jumps, and whether forward."""
    at = datetime(year, 1, 1, tzinfo=timezone.utc)
    found = []
    while at.year == year:
        after = at + timedelta(minutes=30)
        before_offset = at.astimezone(zone).utcoffset()
        after_offset = after.astimezone(zone).utcoffset()
        if before_offset != after_offset:
            found.append((after, before_offset < after_offset))
        at = after
    return found


def starts(name, year):
    zone = ZoneInfo(name)
    found = []
    for at, forward in changes(zone, year):
        # In minutes: the eve, shortly before, at it, and after it; the fold's both passes.
        for offset in [-1570, -95, -10, 0] if forward else [-1570, -75, -25, 0, 10]:
            found.append(at + timedelta(minutes=offset))
    local = [datetime(year, 12, 31, 23, 59), datetime(2024, 2, 27, 12, 0)]
    if name == "Pacific/Apia":
        local.append(datetime(2011, 12, 29, 20, 0))  # The day after it did not exist there.
    found += [at.replace(tzinfo=zone) for at in local]
    return found if len(found) % 2 == 1 else found[:-1] + [found[-1] + timedelta(days=200), found[-1]]


(DATA / "next-run-expressions.txt").write_text("".join(f"{text}\n" for text in expressions()))
with (DATA / "next-run-starts.tsv").open("w") as out:
    for name, year in ZONES:
        cells = [f"{at.astimezone(timezone.utc):%Y-%m-%dT%H:%MZ}" for at in starts(name, year)]
        out.write("\t".join([name, *cells]) + "\n")
