"""The shortcut report in plain words: what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Level = Literal["bad", "warn", "good", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing that the report says.

    Attributes:
        level: bad: a shortcut; warn: may be one, or can't be told; good: none; note: to know.
        region: ground, clothes, outline, box, group, or "" where it is about no region.
        text: what was found.
        advice: what to do, or "".
    """

    level: Level
    region: str
    text: str
    advice: str = ""


def findings(result: Mapping[str, Any]) -> list[Finding]:
    """What the measures of `classify.shortcut.measure` mean, the gravest first."""
    views = {entry["view"]: entry for entry in result["views"]}
    found: list[Finding] = []
    if result["alpha"]:
        found += [*_ground(result, views), *_clothes(views), *_outline(views), *_group(result)]
    else:
        found += [*_no_alpha(result), *_outline(views)]
    trained = views.get(result["trained_view"])
    if trained and not trained["flagged"]:
        found.append(
            Finding(
                "warn",
                "",
                f"As it was trained the model is no better than chance ({percent(trained['accuracy'])}): "
                "what else is said here says little.",
                "Train longer, or with other settings, until it learns something.",
            )
        )
    if not result["held_out"]:
        found.append(
            Finding(
                "warn",
                "",
                f"These photos are {result['rows']}: the scores may be those of known photos.",
                "Report on photos that were not trained on.",
            )
        )
    if result["persons"] < 20:
        found.append(
            Finding(
                "note",
                "",
                f"Only {result['persons']} persons: intervals are rough, and a small shortcut stays unseen.",
            )
        )
    order = ("bad", "warn", "good", "note")
    return sorted(found, key=lambda each: order.index(each.level))


def _ground(result: Mapping[str, Any], views: Mapping[str, Any]) -> list[Finding]:
    gap, alone = result["bg_gap"], views["background"]
    if gap is None:
        return [
            Finding(
                "warn",
                "ground",
                "The BG-gap can't be told: no class has photos of two persons among these.",
                "Hold more persons out (split.folds=2), or name a larger cache with --cache.",
            )
        ]
    told = f"BG-gap {points(gap)}"
    right = f"{percent(alone['accuracy'])} right with the person removed (chance {share(alone['chance'])})"
    blind = result["trained_view"] == "figure"
    if not gap["flagged"] and not alone["flagged"]:
        return [
            Finding(
                "good",
                "ground",
                f"No debt to the background can be shown: {told}, its interval "
                f"{'covers' if _covers(gap) else 'is close to'} 0; {right}.",
            )
        ]
    if blind:
        return [
            Finding(
                "warn",
                "ground",
                f"Shown a ground, this network would let it count: {told}; {right}. In use it is shown the "
                "figure alone, so this matters where the figure's outline lets the ground in.",
                "Look at the cut-outs (preprocess gallery), or add the fill swap: fill=[black,swap].",
            )
        ]
    if not gap["flagged"]:
        return [
            Finding(
                "warn",
                "ground",
                f"The ground alone tells something: {right}; but it does not sway the model once a person "
                f"is there: {told}.",
                "Train on the figure (view=figure) to be sure.",
            )
        ]
    learnt = (
        f"The model gets {right}: it has learnt the room" if alone["flagged"] else "The room sways the model"
    )
    return [
        Finding(
            "bad",
            "ground",
            f"{learnt}. On the ground of another person of the same class it is right more often "
            f"than on that of a random class: {told}.",
            "Train on the figure alone (view=figure), or show it other grounds (fill=swap, or the "
            "augmentation background_swap).",
        )
    ]


def _clothes(views: Mapping[str, Any]) -> list[Finding]:
    alone = views["clothes"]
    if not alone["flagged"]:
        return []
    return [
        Finding(
            "warn",
            "clothes",
            f"The clothes alone give {percent(alone['accuracy'])} (chance {share(alone['chance'])}).",
            "If clothes must not count, cut closer to the face (crop.margin), or erase below the chin.",
        )
    ]


def _outline(views: Mapping[str, Any]) -> list[Finding]:
    box, outline = views["box"], views.get("silhouette")
    if box["flagged"]:
        return [
            Finding(
                "warn",
                "box",
                f"Place and size of the face in the crop alone give {percent(box['accuracy'])} "
                f"(chance {share(box['chance'])}).",
                "Crop around the face (--method det or seg), and shift and scale crops while training.",
            )
        ]
    if outline and outline["flagged"]:
        return [
            Finding(
                "warn",
                "outline",
                f"The outline alone gives {percent(outline['accuracy'])} "
                f"(chance {share(outline['chance'])}).",
                "Hair and posture may rightly tell; where they must not, cut closer to the face.",
            )
        ]
    return []


def _group(result: Mapping[str, Any]) -> list[Finding]:
    groups = result["groups"]
    if not groups or not groups["clusters"]:
        why = "The backgrounds fall into no clusters, so there is no worst group of class and background."
        return [Finding("note", "group", why)]
    worst = groups["worst"]
    if worst is None:
        why = f"No group of class and background has {groups['smallest']} photos: no worst one is named."
        return [Finding("note", "group", why)]
    whole = next(entry for entry in result["views"] if entry["trained"])
    text = (
        f"Worst group: {worst['class']} on background {worst['cluster']}, {percent(worst['accuracy'])} right "
        f"({worst['photos']} photos; all photos: {share(whole['accuracy']['value'])})."
    )
    flagged: Sequence[Any] = [row for row in groups["groups"] if row["flagged"]]
    if not flagged:
        return [Finding("note", "group", text + " No group lies below the rest of its class beyond chance.")]
    names = "; ".join(f"{row['class']} on background {row['cluster']}" for row in flagged[:3])
    more = f" and {len(flagged) - 3} more" if len(flagged) > 3 else ""
    return [
        Finding(
            "warn",
            "group",
            f"{text} Worse than the rest of their class: {names}{more}.",
            "Collect photos of these, or train on the figure.",
        )
    ]


def _no_alpha(result: Mapping[str, Any]) -> list[Finding]:
    first = result["not_computed"][0]
    return [
        Finding(
            "warn",
            "ground",
            f"What the model owes to the background can't be told: {first['why'].split(';')[0]}.",
            "Build a cache of the same photos with --method seg, and name it with --cache.",
        )
    ]


def _covers(interval: Mapping[str, Any]) -> bool:
    return interval["low"] is None or interval["low"] <= 0 <= interval["high"]


def percent(interval: Mapping[str, float | None] | None) -> str:
    """71 % (65 to 77)."""
    if interval is None or interval["value"] is None:
        return "-"
    if interval["low"] is None or interval["high"] is None:
        return share(interval["value"])
    return f"{share(interval['value'])} ({100 * interval['low']:.0f} to {100 * interval['high']:.0f})"


def points(interval: Mapping[str, float | None]) -> str:
    """7.3 points (5.1 to 9.6)."""
    assert interval["value"] is not None
    value = f"{100 * interval['value']:.1f} points"
    if interval["low"] is None or interval["high"] is None:
        return value
    return f"{value} ({100 * interval['low']:.1f} to {100 * interval['high']:.1f})"


def share(value: float) -> str:
    """71 %."""
    return f"{100 * value:.0f} %"
