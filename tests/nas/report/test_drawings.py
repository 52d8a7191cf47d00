"""Pictures show what the network does, and say it in words to who cannot see them."""

import itertools
import xml.etree.ElementTree as ET

import numpy as np
import pytest

import backbones
from backbones.orders.base import GridOrder, route_table
from backbones.registry import ORDERS
from nas.errors import StudyError
from nas.report.drawings.architectures import architecture_alternative, architecture_figure
from nas.report.drawings.orders import draw_route, order_figure, spot, visited
from nas.report.drawings.spaces import choice_tree, space_alternative, space_figure
from nas.report.drawings.style import new_figure
from nas.report.drawings.subjects import draw, find_subject, parse_grid, read_order
from search_spaces import SearchSpace, list_spaces

GRID = (5, 8)


@pytest.mark.parametrize("kind", list(ORDERS.places))
def test_every_order_is_drawn_as_it_is_scanned(kind):
    needs = ", routes: [h, t_diag_flip, w3]" if kind == "routes" else ""
    order = read_order(f"{{kind: {kind}{needs}}}")
    grid = (8, 8) if kind == "quadtree_official" else GRID
    tokens = grid[0] * grid[1]
    routes = visited(order, grid)
    assert len(routes.steps) == order.num_routes
    if isinstance(order, GridOrder):
        for steps, row in zip(routes.steps, route_table(order, *grid)):
            assert steps.tolist() == [token for token in row if token < tokens]
    for steps, added in zip(routes.steps, routes.added):
        assert len(set(steps)) == len(steps)
        if order.visits_all:
            assert sorted([*steps, *added]) == list(range(tokens))
    if order.parts:
        assert sorted(np.concatenate(routes.steps)) == list(range(tokens))


def test_learned_order_is_finer_where_tokens_score_high():
    grid, order = (8, 8), read_order("{kind: quadtree, levels: [2, 4]}")
    rows, cols = np.divmod(visited(order, grid).steps[0], 8)
    # Four windows of 2 x 2 in the upper right quadrant; rows of four tokens elsewhere.
    first = (rows < 4) & (cols >= 4)
    assert list(zip(rows[first], cols[first]))[:5] == [(0, 4), (0, 5), (1, 4), (1, 5), (0, 6)]
    lower = visited(order, grid, score=spot(grid)[::-1]).steps[0]
    assert list(lower) != list(visited(order, grid).steps[0])


def test_route_is_one_line_from_its_start_to_its_end():
    axis = new_figure(3, 3).subplots()
    steps = visited(read_order("cross"), GRID).steps[1]
    draw_route(axis, GRID, steps, np.array([], dtype=int))
    jumps, near = (lines.get_segments() for lines in axis.collections[1:])
    assert len(jumps) == GRID[1] - 1  # from the foot of each column to the head of the next
    assert len(jumps) + len(near) == len(steps) - 1
    drawn = {(tuple(a), tuple(b)) for a, b in [*jumps, *near]}
    middles = [(t % GRID[1] + 0.5, t // GRID[1] + 0.5) for t in steps]
    assert drawn == set(itertools.pairwise(middles))
    assert [text.get_text() for text in axis.texts] == [str(n + 1) for n in range(len(steps))]


@pytest.mark.parametrize("preset", ["quadmamba_small", "local_vssm_tiny", "mambaout_femto"])
def test_architecture_shows_every_block_and_every_stage(preset):
    config = backbones.load_config(preset)
    (axis,) = architecture_figure(config, name=preset).axes
    texts = [text.get_text() for text in axis.texts]
    letters = "".join(stage.letters for stage in config.stages)
    for letter in set(letters):
        assert texts.count(letter) == letters.count(letter) + 1  # and one in the legend
    for number, stage in enumerate(config.stages, start=1):
        assert f"stage {number}" in texts
        assert f"{stage.width} channels" in texts
    said = architecture_alternative(config, preset)
    assert all(f"has blocks {stage.letters}" in said for stage in config.stages)


@pytest.mark.parametrize("name", list_spaces())
def test_space_is_drawn_as_a_tree_that_holds_every_choice_once(name):
    space = SearchSpace.load(name)
    nodes = [node for _, node in choice_tree(space).walk() if node.choice is not None]
    assert sorted(node.text for node in nodes) == sorted(space.choices)
    (axis,) = space_figure(space).axes
    texts = {text.get_text() for text in axis.texts}
    assert texts >= {choice.about for choice in space.choices.values()}
    assert all(name in space_alternative(space) for name in space.choices)


def test_choice_stands_below_the_one_it_depends_on():
    by_name = {n.text: n for _, n in choice_tree(SearchSpace.load("quadtree")).walk()}
    assert [n.text for n in by_name["shift"].below] == ["shift_direction", "shift_blocks"]
    assert by_name["shift_direction"].when == "is one"
    assert by_name["levels_1"] in by_name["mixer_1"].below


def test_svg_carries_title_description_and_text(tmp_path):
    root = ET.parse(draw("zorder", tmp_path / "deep" / "z.svg", grid=(4, 4))).getroot()
    text = "".join(root.itertext())
    assert "Scan order zorder on 4 x 4 tokens" in text
    assert "route 4 of 4" in text
    assert (
        draw("zorder", tmp_path / "again.svg", grid=(4, 4)).read_bytes()
        == (tmp_path / "deep" / "z.svg").read_bytes()
    )


def test_names_are_drawn_as_they_are(tmp_path):
    mine = tmp_path / "$mine_{<script>.yaml"
    mine.write_text(
        "schema: 1\nname: mine\ndescription: costs $5_{ <script>alert(1)</script> $\n"
        "base: vim_tiny\nchoices:\n  d: {options: [8, 16], sets: blocks.m.mixer.d_state,\n"
        "    about: '$x_{'}\n"
    )
    drawn = draw(str(mine), tmp_path / "space.svg")
    root = ET.parse(drawn).getroot()
    assert not any(element.tag.endswith("script") for element in root.iter())
    assert "costs $5_{ <script>alert(1)</script> $" in "".join(root.itertext())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: find_subject("quadtree"), "write order:quadtree or space:quadtree"),
        (lambda: find_subject("vim_tni"), "did you mean 'vim_tiny'"),
        (lambda: parse_grid("7x0"), "grid '7x0' must be"),
        (lambda: parse_grid("7x7x7"), "grid '7x7x7' must be"),
        (lambda: read_order("{kind: window, routes: [w1]}"), "unknown route 'w1'"),
        (lambda: read_order("hilber"), "did you mean 'hilbert'"),
    ],
)
def test_what_cannot_be_drawn_is_said_with_a_remedy(call, says):
    with pytest.raises(StudyError, match=says):
        call()


def test_unknown_format_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(StudyError, match=r"ends in \.svg, \.png, \.pdf"):
        draw("raster", tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []


def test_figure_of_many_routes_has_a_panel_each():
    order = read_order("{kind: window, routes: [h, h_flip, v, v_flip, w2, w2_flip]}")
    figure = order_figure(order, visited(order, (4, 4)))
    titles = [axis.get_title() for axis in figure.axes]
    assert [title for title in titles if title] == [f"route {n} of 6" for n in range(1, 7)]
