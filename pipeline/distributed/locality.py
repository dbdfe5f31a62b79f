"""Which actors a learner works with: those of its own node first, so that weights need not cross the network.

Lanes decide what is computed, so no number depends on this. It knows no paper.
"""

from collections.abc import Sequence


def actors_by_rank(actor_nodes: Sequence[str], rank_nodes: Sequence[str]) -> list[list[int]]:
    """The actors that each rank works with, by their index.

    Every rank has as many actors as the others, or one more, since all have as many lanes. Of those, a rank has actors
    of its own node first. The rest is dealt by node, so that a node without a learner gets the weights of few ranks.
    Where there are fewer actors than ranks, each rank has one, which it shares with as few others as possible.

    >>> actors_by_rank(["a", "b", "a", "b"], ["b", "a"])
    [[1, 3], [0, 2]]

    Args:
        actor_nodes: the node of each actor; empty where it is not known.
        rank_nodes: the node of each rank.
    """
    if len(actor_nodes) >= len(rank_nodes):
        return _deal(actor_nodes, rank_nodes)
    actors: list[list[int]] = [[] for _ in rank_nodes]
    for actor, ranks in enumerate(_deal(rank_nodes, actor_nodes) if actor_nodes else []):
        for rank in ranks:
            actors[rank] = [actor]
    return actors


def _deal(items: Sequence[str], places: Sequence[str]) -> list[list[int]]:
    """Equal shares of the items, or one more, for each place; items and places are named by their nodes."""
    left = {node: [i for i, one in enumerate(items) if one == node] for node in dict.fromkeys(items)}
    shares: list[list[int]] = [[] for _ in places]
    least, more = divmod(len(items), len(places))
    for share, node in zip(shares, places, strict=True):
        near = left.get(node, []) if node else []
        share += near[:least]
        del near[:least]
    for share, node in zip(shares, places, strict=True):
        if more and node and left.get(node):
            share.append(left[node].pop(0))
            more -= 1
    open_shares = [share for share in shares if len(share) <= least]
    gaps = [least + (k < more) - len(share) for k, share in enumerate(open_shares)]
    for far in sorted(left.values(), key=len, reverse=True):
        while far:  # the smallest gap that takes all of the node's; otherwise the widest
            k = min(range(len(gaps)), key=lambda k: (gaps[k] < len(far), abs(gaps[k] - len(far))))
            open_shares[k] += far[: gaps[k]]
            far, gaps[k] = far[gaps[k] :], max(0, gaps[k] - len(far))
    return shares
