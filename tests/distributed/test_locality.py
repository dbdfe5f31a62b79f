"""Actors are dealt to ranks evenly, and by node: what crosses the network, counted on layouts of nodes."""

import itertools

import numpy as np
import pytest

from pipeline.distributed.locality import actors_by_rank, sources_by_rank


def copies(actor_nodes, rank_nodes, shares):
    """Copies of the weights that cross from node to node: each rank's go once to each node of its actors."""
    return len({(rank, actor_nodes[a]) for rank, own in enumerate(shares) for a in own
                if actor_nodes[a] != rank_nodes[rank]})  # fmt: skip


def shared_copies(actor_nodes, rank_nodes, shares):
    """The nodes that copies cross to where some ranks put for others; by node, those that put."""
    sources = sources_by_rank(actor_nodes, rank_nodes, shares)
    pairs = {(source, actor_nodes[a]) for own, by in zip(shares, sources, strict=True)
             for a, source in zip(own, by, strict=True)}  # fmt: skip
    putting = {source for by in sources for source in by}
    return sorted(node for source, node in pairs if node and node != rank_nodes[source]), putting


def round_robin(actors, ranks):
    return [list(range(rank, actors, ranks)) for rank in range(ranks)]


@pytest.mark.parametrize(
    ("actor_nodes", "rank_nodes", "least"),
    [
        ("aabbccdd", "a", 3),
        ("aabbccdd", "ab", 2),
        ("aabbccdd", "abcd", 0),
        ("abcdabcd", "dcba", 0),
        ("aaaaaaaa", "aaaaaaaa", 0),
        ("bbbbbbbbcccccccc", "aa", 2),
        ("aabbcc", "aab", 1),  # two each: all of c's go to one rank
        ("bbbbcc", "aa", 3),  # three each: b is cut
    ],
)
def test_as_few_copies_cross_the_network_as_equal_shares_allow(actor_nodes, rank_nodes, least):
    shares = actors_by_rank(actor_nodes, rank_nodes)
    assert copies(actor_nodes, rank_nodes, shares) == least


def test_each_actor_has_one_rank_and_shares_differ_by_one_at_most():
    rng = np.random.default_rng(0)
    better = 0
    for actors, ranks in itertools.product(range(1, 13), range(1, 6)):
        if actors < ranks:
            continue
        nodes = ["", *"abcd"]
        actor_nodes = [nodes[i] for i in rng.integers(5, size=actors)]
        rank_nodes = [nodes[i] for i in rng.integers(1, 5, size=ranks)]
        shares = actors_by_rank(actor_nodes, rank_nodes)
        assert sorted(itertools.chain(*shares)) == list(range(actors))
        assert {len(share) for share in shares} <= {actors // ranks, -(-actors // ranks)}
        fewer = copies(actor_nodes, rank_nodes, round_robin(actors, ranks)) - copies(actor_nodes, rank_nodes, shares)
        assert fewer >= 0
        better += fewer > 0
    assert better > 20


def test_ranks_share_actors_of_their_node_where_there_are_fewer_actors():
    assert actors_by_rank("ab", "abab") == [[0], [1], [0], [1]]
    assert actors_by_rank("a", "bc") == [[0], [0]]
    assert sorted(actors_by_rank("ab", "aaaa")) == [[0], [0], [1], [1]]
    assert sorted(actors_by_rank("aaab", "bbbbb")) == [[0], [1], [2], [3], [3]]
    assert actors_by_rank("", "ab") == [[], []]


def test_actors_of_a_lost_node_are_dealt_anew_when_the_learners_start_again():
    before, after = actors_by_rank("aabb", "ab"), actors_by_rank("aaaa", "a")
    assert before == [[0, 1], [2, 3]]
    assert after == [[0, 1, 2, 3]]
    assert actors_by_rank(["a", "", "", "b"], "ab") == [[0, 1], [3, 2]]  # two of them have no node yet


@pytest.mark.parametrize(
    ("actor_nodes", "rank_nodes", "crossed", "putting"),
    [
        ("bbbbbbbbcccccccc", "aaaaaaaa", "bc", {0}),  # each of eight ranks has put its own, and sent it to b or c
        ("bbbbcc", "aa", "bc", {0}),
        ("aabbccdd", "abcd", "", {0, 1, 2, 3}),
        ("aaaa", "aaaa", "", {0, 1, 2, 3}),  # nothing crosses anyway
        ("aab", "aab", "", {0, 1, 2}),
        ("aaab", "aabb", "", {0, 2}),  # rank 1 or 2 works with an actor of the other node
        ("a", "bbcc", "a", {0}),  # which all share
    ],
)
def test_a_node_without_ranks_gets_one_copy_and_where_that_saves_any_one_rank_puts(
    actor_nodes, rank_nodes, crossed, putting
):
    shares = actors_by_rank(actor_nodes, rank_nodes)
    assert shared_copies(actor_nodes, rank_nodes, shares) == (sorted(crossed), putting)


def test_shared_weights_cross_once_to_each_node_without_ranks_on_any_layout():
    rng = np.random.default_rng(1)
    for actors, ranks in itertools.product(range(1, 13), range(1, 6)):
        actor_nodes = ["abcdef"[i] for i in rng.integers(6, size=actors)]
        rank_nodes = ["abcd"[i] for i in rng.integers(4, size=ranks)]
        shares = actors_by_rank(actor_nodes, rank_nodes)
        crossed, putting = shared_copies(actor_nodes, rank_nodes, shares)
        assert crossed == sorted({*actor_nodes} - {*rank_nodes})
        if len(crossed) < copies(actor_nodes, rank_nodes, shares):
            assert len(putting) == len({rank_nodes[rank] for rank in putting})
        else:
            assert putting == {rank for rank, own in enumerate(shares) if own}


def test_an_actor_without_a_known_node_gets_the_weights_of_its_ranks_node():
    assert sources_by_rank(["c", "", "c", ""], "aab", [[0], [1, 2], [3]]) == [[0], [0, 0], [2]]
    assert sources_by_rank(["a", "", "", "b"], "aab", [[0, 1], [2], [3]]) == [[0, 0], [1], [2]]  # nothing to save
