import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backbones.config import AtrousOrder, FixedOrder, WindowOrder
from backbones.orders import (
    hilbert,
    inverse_table,
    move_codes,
    padded_tokens,
    route_table,
    snake,
    subgrid_table,
    transposed,
    windows,
    zorder,
)

FIXED = ["raster", "bidirectional", "cross", "snake", "hilbert", "zorder"]
SIDES = st.integers(1, 19)
ROUTES = st.lists(
    st.sampled_from(["h", "h_flip", "v", "v_flip", "w2", "w2_flip", "w3", "w7", "w7_flip"]),
    min_size=1,
    unique=True,
)


@given(SIDES, SIDES, st.sampled_from(FIXED), st.booleans(), st.integers(-9, 9), st.integers(-9, 9))
def test_fixed_orders_are_permutations(height, width, kind, class_token, down, right):
    order = FixedOrder(kind=kind)
    table = route_table(order, height, width, class_token, down, right)
    assert table.shape == (order.num_routes, height * width + class_token)
    assert (np.sort(table, axis=1) == np.arange(table.shape[1])).all()


@given(SIDES, SIDES, ROUTES, st.booleans(), st.integers(-9, 9), st.integers(-9, 9))
def test_window_orders_are_permutations(height, width, routes, class_token, down, right):
    order = WindowOrder(routes=tuple(routes))
    table = route_table(order, height, width, class_token, down, right)
    assert table.shape[1] == height * width + class_token + padded_tokens(order, height, width)
    assert (np.sort(table, axis=1) == np.arange(table.shape[1])).all()


@given(SIDES, SIDES, st.sampled_from(FIXED))
def test_inverse_undoes_an_order(height, width, kind):
    order = FixedOrder(kind=kind)
    table, back = route_table(order, height, width), inverse_table(order, height, width)
    assert (np.take_along_axis(table, back, axis=1) == np.arange(height * width)).all()


def steps(curve, width):
    rows, cols = np.divmod(np.asarray(curve), width)
    return np.abs(np.diff(rows)), np.abs(np.diff(cols))


@given(SIDES, SIDES)
def test_snake_moves_to_adjacent_tokens(height, width):
    for route in route_table(FixedOrder(kind="snake"), height, width):
        down, right = steps(route, width)
        assert (down + right == 1).all()


@given(SIDES, SIDES)
def test_hilbert_moves_to_neighbors(height, width):
    down, right = steps(hilbert(height, width), width)
    assert (np.maximum(down, right) == 1).all()


@pytest.mark.parametrize("side", [2, 4, 8, 16])
def test_hilbert_on_powers_of_two_never_steps_diagonally(side):
    down, right = steps(hilbert(side, side), side)
    assert (down + right == 1).all()
    quarter = hilbert(side, side)[: side**2 // 4]
    rows, cols = np.divmod(quarter, side)
    assert rows.max() < side // 2
    assert cols.max() < side // 2


def test_zorder_interleaves_bits():
    assert zorder(4, 4).tolist() == [0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15]
    assert zorder(3, 3).tolist() == [0, 1, 3, 4, 2, 5, 6, 7, 8]


def test_cross_is_rows_columns_and_their_reverses():
    assert route_table(FixedOrder(kind="cross"), 2, 3).tolist() == [
        [0, 1, 2, 3, 4, 5],
        [0, 3, 1, 4, 2, 5],
        [5, 4, 3, 2, 1, 0],
        [5, 2, 4, 1, 3, 0],
    ]


def test_snake_and_move_codes_as_plainmamba():
    assert snake(2, 3).tolist() == [0, 1, 2, 5, 4, 3]
    assert route_table(FixedOrder(kind="snake"), 14, 14)[1][0] == 13 * 14
    assert route_table(FixedOrder(kind="snake"), 14, 14)[3][0] == 13
    codes = move_codes(14, 14)
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


def test_class_token_stands_in_the_middle():
    both = route_table(FixedOrder(kind="bidirectional"), 2, 2, class_token=True)
    assert both.tolist() == [[0, 1, 4, 2, 3], [3, 2, 4, 1, 0]]
    odd = route_table(FixedOrder(kind="bidirectional"), 1, 3, class_token=True)
    assert odd.tolist() == [[0, 3, 1, 2], [2, 1, 3, 0]]  # Vim reverses the whole sequence
    local = route_table(WindowOrder(routes=("h", "h_flip")), 1, 3, class_token=True)
    assert local.tolist() == [[0, 3, 1, 2], [2, 3, 1, 0]]  # LocalVim puts it back at M // 2


@given(SIDES, SIDES, st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(FIXED))
def test_shift_in_the_table_equals_rolling_the_map(height, width, down, right, kind):
    tokens = np.arange(height * width)
    rolled = np.roll(tokens.reshape(height, width), (down, right), axis=(0, 1)).ravel()
    plain = route_table(FixedOrder(kind=kind), height, width)
    shifted = route_table(FixedOrder(kind=kind), height, width, False, down, right)
    assert (tokens[shifted] == rolled[plain]).all()


@given(SIDES, SIDES)
def test_transposing_a_curve_twice_gives_it_back(height, width):
    curve = hilbert(width, height)
    assert (transposed(transposed(curve, height, width), width, height) == curve).all()


def test_atrous_takes_each_token_once_by_parity():
    table = subgrid_table(AtrousOrder(), 4, 4)
    assert sorted(table.ravel()) == list(range(16))
    assert table[0].tolist() == [0, 2, 8, 10]
    assert table[1].tolist() == [4, 12, 6, 14]  # odd rows, by columns
    assert table[2].tolist() == [1, 3, 9, 11]
    assert table[3].tolist() == [5, 13, 7, 15]
    assert sorted(subgrid_table(AtrousOrder(), 3, 5).ravel()) == list(range(4 * 6))
