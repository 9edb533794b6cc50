"""Which of the feed-forward networks that were found become sparse."""

from collections.abc import Iterable
from typing import TypeAlias

from keras_moe.conversion._feed_forward_site import FeedForwardSite
from keras_moe.conversion._find_feed_forwards import Findings

Block: TypeAlias = int | str | tuple[str, str]

CONVERTIBLE = (
    "a dense `SwitchTransformer`, or a Functional or Sequential model with "
    "feed-forward networks: `keras_moe.layers.FeedForward`, alone or in an "
    "`EncoderBlock` or `DecoderBlock`, or a `Dense` layer with an activation "
    "followed by a `Dense` layer back to the size of the input"
)


def choose_sites(
    found: Findings, blocks: Iterable[Block] | None, moe_every: int
) -> list[FeedForwardSite]:
    """Returns the networks that the arguments of `upcycle` name.

    Raises:
        ValueError: if there are none, or not the ones that are named.
    """
    if blocks is None:
        if not found.sites:
            raise ValueError(
                f"`dense` must be {CONVERTIBLE}. None was found in it."
                + _reasons(found)
            )
        return list(found.sites[moe_every - 1 :: moe_every]) or [
            found.sites[-1]
        ]
    chosen: list[FeedForwardSite] = []
    for block in blocks:
        site = _find(found, block)
        if site not in chosen:
            chosen.append(site)
    if not chosen:
        raise ValueError("`blocks` must name at least one. Received: none.")
    owners = [id(layer) for s in chosen for layer in (*s.removed, s.layer)]
    if len(set(owners)) < len(owners):
        raise ValueError(
            "`blocks` must not name two pairs that share a layer. Received: "
            f"{[site.name for site in chosen]}."
        )
    return chosen


def _find(found: Findings, block: Block) -> FeedForwardSite:
    if isinstance(block, int):
        if 0 <= block < len(found.sites):
            return found.sites[block]
        raise ValueError(
            f"A number in `blocks` must be in [0, {len(found.sites)}), since "
            f"so many networks were found. Received: {block}."
        )
    known = (*found.sites, *found.doubtful)
    if isinstance(block, str):
        named = [site for site in known if site.name == block]
        named = named or [
            site for site in known if site.name.endswith(f"/{block}")
        ]
    else:
        first, second = block
        named = [
            site
            for site in known
            if site.removed
            and site.inner.name == first
            and second in (site.outer.name, site.name)
        ]
    if len(named) == 1:
        return named[0]
    what = "more than one network has" if named else "no network has"
    raise ValueError(
        f"A name in `blocks` must be one of {[site.name for site in known]}; "
        f"{what} the name {block!r}." + _reasons(found)
    )


def _reasons(found: Findings) -> str:
    if not found.skipped:
        return ""
    listed = "; ".join(f"{n}: {reason}" for n, reason in found.skipped.items())
    return f" Not taken: {listed}."
