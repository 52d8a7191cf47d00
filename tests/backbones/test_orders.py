"""Every registered scan order: its table visits each token once, and its facts are true."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.language import CLASS_TOKENS
from backbones.orders.atrous import AtrousOrder
from backbones.orders.base import (
    GridOrder,
    inverse_table,
    move_codes,
    raster,
    route_table,
    steps_of_tokens,
    transposed,
)
from backbones.orders.hilbert import HilbertOrder
from backbones.orders.raster import BidirectionalOrder, CrossOrder
from backbones.orders.routes import RoutesOrder, WindowOrder, route, windows
from backbones.orders.snake import SnakeOrder
from backbones.orders.zorder import ZOrder
from backbones.registry import ORDERS

GRID_ORDERS = sorted(
    k for k in ORDERS.places if issubclass(ORDERS.load(k), GridOrder) and ORDERS.load(k).visits_all
)
SIDES = st.integers(1, 19)
ROLLS = st.integers(-9, 9)
ROUTES = st.lists(
    st.sampled_from(["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w3", "w7", "w7_flip"]),
    min_size=1,
    unique=True,
)

NEEDED = {"routes": ["h", "t_snake_flip", "t_w3", "t_w3", "random:7_flip"]}


def an_order(kind):
    """Return an order of a kind, with what it cannot do without."""
    return ORDERS.read({"kind": kind, **({"routes": NEEDED[kind]} if kind in NEEDED else {})})


each_order = pytest.mark.parametrize("kind", GRID_ORDERS)


WORDS = st.builds(
    lambda t, base, flip: t + base + flip,
    st.sampled_from(["", "t_"]),
    st.sampled_from(["h", "v", "snake", "hilbert", "zorder", "diag", "w2", "w7", "random:3"]),
    st.sampled_from(["", "_flip"]),
)


def check_table(order: GridOrder, height: int, width: int, token: bool, *roll: int) -> None:
    """Assert that each route visits every token once, also around a class token and rolled."""
    table = route_table(order, height, width, token, *roll)
    length = height * width + token + order.spare((height, width))
    assert table.shape == (order.num_routes, length)
    assert (np.sort(table, axis=1) == np.arange(length)).all()
    assert order.length((height, width)) == length - token


@each_order
@given(SIDES, SIDES, st.booleans(), ROLLS, ROLLS)
def test_each_route_visits_every_token_once(kind, height, width, token, down, right):
    check_table(an_order(kind), height, width, token, down, right)


@given(SIDES, SIDES, ROUTES, st.booleans(), ROLLS, ROLLS)
def test_window_orders_are_permutations(height, width, routes, token, down, right):
    check_table(WindowOrder(routes=tuple(routes)), height, width, token, down, right)


@given(SIDES, SIDES, st.lists(WORDS, min_size=1, max_size=5), st.booleans(), ROLLS, ROLLS)
def test_lists_of_routes_are_permutations(height, width, routes, token, down, right):
    check_table(RoutesOrder(routes=tuple(routes)), height, width, token, down, right)


def test_names_of_routes_say_what_they_visit():
    assert route("t_h", 2, 3).tolist() == route("v", 2, 3).tolist() == [0, 3, 1, 4, 2, 5]
    assert route("diag", 2, 3).tolist() == [0, 1, 3, 2, 4, 5]
    assert route("t_diag_flip", 2, 3).tolist() == [5, 2, 4, 1, 3, 0]
    assert route("t_w2", 2, 3).tolist() == [0, 3, 1, 4, 2, 5, -1, -1]
    assert (route("random:1", 4, 4) != route("random:2", 4, 4)).any()
    assert (route("random:1", 4, 4) == route("random:1", 4, 4)).all()


@pytest.mark.parametrize("kind", ["cross", "snake", "hilbert", "zorder", "diag"])
def test_named_orders_are_lists_of_routes(kind):
    curve = "h" if kind == "cross" else kind
    names = tuple(t + curve + flip for t in ("", "t_") for flip in ("", "_flip"))
    named, listed = an_order(kind), RoutesOrder(routes=names)
    for size in ((4, 6), (5, 3)):
        tables = (route_table(order, *size) for order in (named, listed))
        one, other = (sorted(map(tuple, t.tolist())) for t in tables)
        assert one == other
    assert named.canonical(False) == listed.canonical(False)
    assert RoutesOrder(routes=names[:3]).canonical(False) != named.canonical(False)
    assert RoutesOrder(routes=names + names[:1]).canonical(False) != named.canonical(False)


def test_unknown_routes_name_the_vocabulary():
    with pytest.raises(ValueError, match=r"unknown route 'spin'; a route is \[t_\]BASE\[_flip\]"):
        RoutesOrder(routes=("h", "t_spin_flip"))
    with pytest.raises(ValueError, match=r"routes \[\] must be one or more names"):
        RoutesOrder(routes=())


@each_order
@given(SIDES, SIDES)
def test_inverse_undoes_an_order(kind, height, width):
    order = an_order(kind)
    table, back = route_table(order, height, width), inverse_table(order, height, width)
    assert (np.take_along_axis(table, back, axis=1) == np.arange(table.shape[1])).all()


def steps(curve, width):
    rows, cols = np.divmod(np.asarray(curve), width)
    return np.abs(np.diff(rows)), np.abs(np.diff(cols))


@each_order
@given(SIDES, SIDES)
def test_orders_of_adjacent_steps_are_those_that_say_so(kind, height, width):
    order = an_order(kind)
    if order.adjacent:
        for route in route_table(order, height, width):
            down, right = steps(route, width)
            assert (down + right == 1).all()


@each_order
@pytest.mark.parametrize("side", [1, 2, 3, 5, 8])
def test_what_stands_for_an_order_on_a_small_map_runs_there(kind, side):
    order, notes = an_order(kind).adapts_to(side)
    check_table(order, side, side, False)
    assert all(isinstance(note, str) for note in notes)


@given(SIDES, SIDES)
def test_hilbert_moves_to_neighbors(height, width):
    down, right = steps(HilbertOrder.curve(height, width), width)
    assert (np.maximum(down, right) == 1).all()


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_hilbert_on_powers_of_two_never_steps_diagonally(side):
    down, right = steps(HilbertOrder.curve(side, side), side)
    assert (down + right == 1).all()
    quarter = HilbertOrder.curve(side, side)[: side**2 // 4]
    rows, cols = np.divmod(quarter, side)
    assert rows.max() < side // 2
    assert cols.max() < side // 2


def test_zorder_interleaves_bits():
    assert ZOrder.curve(4, 4).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert ZOrder.curve(3, 3).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]


def test_cross_is_rows_columns_and_their_reverses():
    assert route_table(CrossOrder(), 2, 3).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


def test_snake_and_move_codes_as_plainmamba():
    snake = SnakeOrder()
    assert SnakeOrder.curve(2, 3).tolist() == [0, 1, 2, 5, 4, 3]
    assert route_table(snake, 14, 14)[1][0] == 13 * 14
    assert route_table(snake, 14, 14)[3][0] == 13
    codes = move_codes(snake, 14, 14)
    assert codes[:, 0].tolist() == [0, 0, 0, 0]
    assert codes[1][1] == 1  # the reverse of the rows starts at the bottom left, to the right
    assert codes[3][1] == 4  # the reverse of the columns starts at the top right, downwards
    assert set(codes[0]) == {0, 1, 2, 4}
    assert set(codes[2]) == {0, 1, 3, 4}


@given(SIDES, SIDES, st.integers(2, 7))
def test_window_positions_follow_the_published_formula(height, width, size):
    route = windows(height, width, size)
    padded_width = -(-width // size) * size
    for i in range(height):
        for j in range(width):
            block = (padded_width // size) * (i // size) + j // size
            assert route[block * size**2 + i % size * size + j % size] == i * width + j


def test_padding_tokens_of_shorter_routes_come_last():
    table = route_table(WindowOrder(routes=("h", "w2", "w2_flip")), 3, 3)
    assert table[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    assert table[1].tolist()[:4] == [0, 1, 3, 4]
    assert table[1][5] >= 9  # right of the top right token lies padding
    assert table[2][0] >= 9  # reversed, the padded corner comes first


def test_class_tokens_stand_at_the_ends():
    head, double = (list(CLASS_TOKENS).index(name) for name in ("head", "double"))
    assert route_table(BidirectionalOrder(), 1, 3, head).tolist() == [[3, 0, 1, 2], [2, 1, 0, 3]]
    both = route_table(BidirectionalOrder(), 1, 3, double).tolist()
    assert both == [[3, 0, 1, 2, 4], [4, 2, 1, 0, 3]]
    local = route_table(WindowOrder(routes=("h_flip", "w2")), 1, 3, double).tolist()
    assert local == [[3, 2, 1, 0, 4, 5, 6, 7, 8, 9], [3, 0, 1, 5, 6, 2, 7, 8, 9, 4]]


def test_class_token_stands_in_the_middle():
    both = route_table(BidirectionalOrder(), 2, 2, class_token=True)
    assert both.tolist() == [[0, 1, 4, 2, 3], [3, 2, 4, 1, 0]]
    odd = route_table(BidirectionalOrder(), 1, 3, class_token=True)
    assert odd.tolist() == [[0, 3, 1, 2], [2, 1, 3, 0]]  # Vim reverses the whole sequence
    local = route_table(WindowOrder(routes=("h", "h_flip")), 1, 3, class_token=True)
    assert local.tolist() == [[0, 3, 1, 2], [2, 3, 1, 0]]  # LocalVim puts it back at M // 2


@each_order
@given(SIDES, SIDES, ROLLS, ROLLS)
def test_shift_in_the_table_equals_rolling_the_map(kind, height, width, down, right):
    order = an_order(kind)
    tokens = np.arange(order.length((height, width)))  # padding is not rolled
    rolled, count = tokens.copy(), height * width
    rolled[:count] = np.roll(tokens[:count].reshape(height, width), (down, right), (0, 1)).ravel()
    plain = route_table(order, height, width)
    shifted = route_table(order, height, width, False, down, right)
    assert (tokens[shifted] == rolled[plain]).all()


@given(SIDES, SIDES)
def test_transposing_a_curve_twice_gives_it_back(height, width):
    def once(rows, cols):
        return transposed(HilbertOrder.curve, rows, cols)

    assert (transposed(once, height, width) == HilbertOrder.curve(height, width)).all()
    assert transposed(raster, 2, 3).tolist() == [0, 3, 1, 4, 2, 5]


def test_atrous_takes_each_token_once_by_parity():
    table = route_table(AtrousOrder(), 4, 4)
    assert sorted(table.ravel()) == list(range(16))
    assert table[0].tolist() == [0, 2, 8, 10]
    assert table[1].tolist() == [4, 12, 6, 14]  # odd rows, by columns
    assert table[2].tolist() == [1, 3, 9, 11]
    assert table[3].tolist() == [5, 13, 7, 15]
    odd = route_table(AtrousOrder(), 3, 5)  # padded to 4 x 6; a route's padding counts from 15
    assert odd.shape == (4, 6) == (4, AtrousOrder().length((3, 5)))
    assert sorted(odd[odd < 15]) == list(range(15))
    assert odd[3].tolist() == [6, 15, 8, 16, 17, 18]
    assert odd.flatten()[steps_of_tokens(AtrousOrder(), 3, 5)].tolist() == list(range(15))
    assert AtrousOrder(step=2) == AtrousOrder()  # as stored before the step went
    assert AtrousOrder().adapts_to(3)[1] == ["atrous sub-grids hold 4 token(s)"]
