"""Reading the toy world's flow files, and flow over several frames."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.errors import UserError
from lib.toyworld.flow import chain_flows, flow_path, read_chained_flow, read_flow
from lib.toyworld.generate import ensure_toy_world
from lib.toyworld.options import ToyWorldOptions
from lib.toyworld.render import flow_truth, render_clip


def write_flow(root, frame=0, sequence="walking-a", **arrays):
    path = root / "Flow" / "480p" / sequence / f"{frame:05d}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def steps(count, size, value):
    return np.broadcast_to(np.float32(value), (count, *size, 2)).copy(), np.ones((count, *size), bool)


# --- Chains whose answer is known ---


def test_an_even_motion_adds_up_and_leaves_the_picture():
    flow, visible = chain_flows(*steps(3, (8, 12), (1.5, -0.5)))
    np.testing.assert_array_equal(flow[visible], np.broadcast_to([4.5, -1.5], (visible.sum(), 2)))
    # 12 columns reach to 11.5: x + 4.5 < 11.5; the upper edge is -0.5: y - 1.5 > -0.5
    expected = np.zeros((8, 12), bool)
    expected[2:, :7] = True
    np.testing.assert_array_equal(visible, expected)


def test_a_zoom_is_followed_exactly():
    y, x = np.mgrid[:20, :30].astype(np.float32)
    towards = np.stack([0.1 * (x - 14.5), -0.2 * (y - 9.5)], -1)  # linear: what bilinear reading gives back
    flow, visible = chain_flows(np.stack([towards] * 4), np.ones((4, 20, 30), bool))
    exact = np.stack([(1.1**4 - 1) * (x - 14.5), (0.8**4 - 1) * (y - 9.5)], -1)
    np.testing.assert_allclose(flow[visible], exact[visible], atol=1e-4)
    assert visible[:, 10:20].all() and not visible[:, [0, -1]].any()


def test_a_point_hidden_on_the_way_stays_hidden():
    flows, visible = steps(3, (5, 9), (1, 0))
    visible[1, 2, 4] = False  # met by what starts one pixel to its left
    _, seen = chain_flows(flows, visible)
    expected = np.ones((5, 9), bool)
    expected[:, 6:] = False  # leave the picture
    expected[2, 3] = False
    np.testing.assert_array_equal(seen, expected)


def test_between_hidden_and_seen_pixels_nothing_is_seen():
    flows, visible = steps(2, (4, 8), (0.5, 0))
    visible[1, :, 3] = False
    assert chain_flows(flows, visible)[1][0].tolist() == [True, True, False, False, True, True, True, False]


def test_between_surfaces_that_part_nothing_is_known():
    flows, visible = steps(2, (4, 8), (0.5, 0))
    flows[1, :, 4:] = (-3, 0)  # in the second step the right half goes back
    flow, seen = chain_flows(flows, visible)
    assert seen[0].tolist() == [True, True, True, False, True, True, True, False]
    np.testing.assert_array_equal(flow[0, seen[0], 0], [1, 1, 1, -2.5, -2.5, -2.5])


def test_one_step_is_itself():
    rng = np.random.default_rng(0)
    flows = rng.uniform(-3, 3, (1, 9, 11, 2)).astype(np.float32)
    visible = rng.random((1, 9, 11)) < 0.7
    flow, seen = chain_flows(flows, visible)
    np.testing.assert_allclose(flow, flows[0], atol=1e-5)
    y, x = np.mgrid[:9, :11]
    end = np.stack([x, y], -1) + flows[0]
    np.testing.assert_array_equal(seen, visible[0] & ((end > -0.5) & (end < (10.5, 8.5))).all(-1))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (6, 1)])
def test_pictures_one_pixel_wide(size):
    flow, seen = chain_flows(*steps(2, size, (0, 0)))
    assert seen.all() and not flow.any()


@pytest.mark.parametrize("gap", [2, 6])
def test_chains_are_what_the_renderer_says(gap):
    clip = render_clip(1, frames=gap + 1)
    flow, visible = chain_flows(clip.flow.astype(np.float16), clip.visible)
    exact, seen = flow_truth(clip.scene, 0, clip.parts[0], gap)
    error = np.linalg.norm(flow - exact, axis=-1)[visible]
    assert error.max() < 1 and error.mean() < 0.01  # pixels; the largest motion here is tens of pixels
    assert np.linalg.norm(exact[visible], axis=-1).max() > 2 * gap
    assert (visible & ~seen).sum() < 1e-3 * seen.sum()  # what is said to be seen is
    assert visible.sum() > 0.85 * seen.sum()  # and little of what is seen is lost (it may come back after hiding)


# --- Files ---


def test_the_toy_world_writes_what_is_read(tmp_path):
    options = ToyWorldOptions(("davis2017",), height=72, width=96, davis_train=0, davis_val=1, davis_frames=30)
    root = ensure_toy_world(tmp_path / "toy", options, workers=1) / "davis2017"
    (sequence,) = (path.name for path in (root / "Flow" / "480p").iterdir())
    parts = [read_flow(flow_path(root, sequence, t)) for t in range(3)]
    assert all(flow.dtype == np.float32 and visible.dtype == bool for flow, visible in parts)
    flow, visible = read_chained_flow(root, sequence, 1, 3)
    expected = chain_flows(*(np.stack(arrays) for arrays in zip(*parts[1:], strict=True)))
    np.testing.assert_array_equal(flow, expected[0])
    np.testing.assert_array_equal(visible, expected[1])
    assert visible.mean() > 0.5
    with pytest.raises(UserError, match="00029.npz: no such flow file"):
        read_chained_flow(root, sequence, 28, 30)


ZERO = np.zeros((3, 4, 2), np.float16)
SEEN = np.ones((3, 4), bool)


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"flow": ZERO}, "no readable flow file .KeyError."),
        ({"flow": ZERO[..., 0], "visible": SEEN}, "must hold finite flow"),
        ({"flow": ZERO.astype(int), "visible": SEEN}, "must hold finite flow"),
        ({"flow": ZERO + np.float16(np.nan), "visible": SEEN}, "must hold finite flow"),
        ({"flow": ZERO, "visible": SEEN.T}, "must hold finite flow"),
        ({"flow": ZERO, "visible": SEEN.astype(np.uint8)}, "must hold finite flow"),
        ({"flow": np.array([print], object), "visible": SEEN}, "no readable flow file"),  # code is not loaded
    ],
)
def test_files_that_hold_something_else_are_refused(tmp_path, arrays, message):
    path = write_flow(tmp_path, **arrays)
    with pytest.raises(UserError, match=f"00000.npz: {message}"):
        read_flow(path)


def test_an_array_alone_is_no_flow_file(tmp_path):
    np.save(tmp_path / "x.npy", ZERO)
    with pytest.raises(UserError, match="x.npy: no readable flow file"):
        read_flow(tmp_path / "x.npy")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_refused_or_harmless(tmp_path, data):
    rng = np.random.default_rng(0)
    flow = rng.normal(size=(6, 8, 2)).astype(np.float16)
    path = write_flow(tmp_path, flow=flow, visible=np.ones((6, 8), bool))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:at]
    else:
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(bytes(content))
    try:
        found, visible = read_flow(path)
    except UserError as error:
        assert str(path) in str(error)
    else:  # a bit that says nothing of the arrays, such as a date
        np.testing.assert_array_equal(found, flow)
        assert visible.all()


@pytest.mark.parametrize("first, later", [(2, 2), (3, 1), (-1, 2)])
def test_a_chain_leads_forward(tmp_path, first, later):
    with pytest.raises(UserError, match=f"not from {first} to {later}"):
        read_chained_flow(tmp_path, "walking-a", first, later)
