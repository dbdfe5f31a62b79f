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


def sources_by_rank(
    actor_nodes: Sequence[str], rank_nodes: Sequence[str], actors: Sequence[Sequence[int]]
) -> list[list[int]]:
    """The rank that puts the weights of each actor into the object store, by rank that works with it.

    Where that takes fewer copies from node to node, the first rank of each node puts them for all: for the actors of
    its node, and for those of a node without ranks if it is the first of its node to have any of them. Then weights
    reach a node without ranks once, and none with ranks. Otherwise each rank puts its own, which costs it less than to
    ask for another's.

    >>> sources_by_rank(["c", "c", "b", "b"], ["a", "a", "b"], [[0], [1], [2, 3]])
    [[0], [0], [2, 2]]

    Args:
        actor_nodes: the node of each actor; empty where it is not known.
        rank_nodes: the node of each rank.
        actors: those of each rank, as `actors_by_rank` returns them.
    """
    first = {node: rank_nodes.index(node) for node in rank_nodes}
    sources = dict(first)
    for rank, own in enumerate(actors):
        for node in {actor_nodes[i] for i in own} - {""}:
            sources.setdefault(node, first[rank_nodes[rank]])
    pairs = [(rank, actor_nodes[i]) for rank, own in enumerate(actors) for i in own]
    crossing = {(rank, node) for rank, node in pairs if node and node != rank_nodes[rank]}
    if len(crossing) == len({node for _, node in pairs} - {*rank_nodes, ""}):
        return [[rank] * len(own) for rank, own in enumerate(actors)]
    return [[sources.get(actor_nodes[i], first[rank_nodes[rank]]) for i in own] for rank, own in enumerate(actors)]


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
