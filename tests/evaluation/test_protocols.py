"""The protocols of each task against the published settings, and the input sizes that they ask for."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.errors import UserError
from lib.evaluation.protocols import PROTOCOLS, TASKS, Fit, get_protocol, input_size

# --- Input sizes ---


@pytest.mark.parametrize(
    "fit, sizes",
    [
        (Fit("short", 480), {(480, 854): (480, 832), (480, 910): (480, 896), (480, 1152): (480, 1152),
                             (854, 480): (832, 480), (480, 480): (480, 480), (240, 427): (480, 832)}),
        (Fit("long", 880), {(720, 1280): (448, 880), (1280, 720): (880, 448), (880, 880): (880, 880),
                            (360, 640): (448, 880), (240, 1280): (128, 880)}),
    ],
)  # fmt: skip
def test_one_side_is_given_and_the_other_keeps_the_ratio(fit, sizes):
    assert {size: fit(size) for size in sizes} == sizes


@given(st.sampled_from(["short", "long"]), st.integers(1, 20), st.integers(16, 2000), st.integers(16, 2000))
def test_the_other_side_is_the_next_multiple_of_64_below(side, blocks, height, width):
    length = 64 * blocks
    found = Fit(side, length)((height, width))
    order = (0, 1) if (height <= width) == (side == "short") else (1, 0)
    given_side, other = order
    assert found[given_side] == length
    exact = length * (height, width)[other] / (height, width)[given_side]
    assert found[other] % 64 == 0 and found[other] <= exact < found[other] + 64


def test_sizes_that_do_not_fit_the_patches_are_named():
    protocol = get_protocol("cropmae", "vip")
    assert input_size((720, 1280), 16, protocol) == (448, 880)
    with pytest.raises(UserError, match="input size 448x880 is no whole number of patches of 14: give another"):
        input_size((720, 1280), 14, protocol)
    with pytest.raises(UserError, match="input size 0x880 is no whole"):  # so narrow that no block of 64 is left
        input_size((50, 1280), 16, protocol)


def test_native_sizes_go_to_the_nearest_multiple():
    native = get_protocol("crw")
    assert [input_size((480, width), 16, native) for width in (848, 855, 857, 910)] == [
        (480, 848), (480, 848), (480, 864), (480, 912),
    ]  # fmt: skip
    assert input_size((5, 5), 16, native) == (16, 16)


def test_input_sizes_of_the_presets():
    sizes = {(name, patch): [input_size((480, width), patch, PROTOCOLS[name]["davis"]) for width in (854, 910, 1152)]
             for name in PROTOCOLS for patch in (8, 16)}  # fmt: skip
    assert sizes["dino", 8] == sizes["rsp", 16] == [(480, 832), (480, 896), (480, 1152)]
    assert sizes["cropmae", 16] == sizes["siammae-4b", 8] == [(480, 880)] * 3
    assert sizes["crw", 8] == [(480, 856), (480, 912), (480, 1152)] and sizes["crw", 16][0] == (480, 848)
    assert input_size((854, 480), 8, PROTOCOLS["dino"]["davis"]) == (832, 480)
    assert input_size((480, 854), 8, get_protocol("dino", input_size=(240, 432))) == (240, 432)
    with pytest.raises(UserError, match="480x880 .* patches of 14"):
        input_size((480, 854), 14, PROTOCOLS["cropmae"]["davis"])


# --- Protocols of each task ---

# shape, frame 0 masked, padded start, queue, radius, top k, temperature, joint cells, input size; D, V, J
CROPMAE = ("disc", False, True, 20, 20)
PUBLISHED = {
    ("crw", "davis"): ("disc", False, True, 20, 12, 10, 0.05, 3, None),
    ("crw", "vip"): ("disc", False, True, 4, 12, 10, 0.05, 3, (560, 560)),
    ("crw", "jhmdb"): ("disc", False, True, 7, 12, 10, 0.05, 3, (320, 320)),
    ("cropmae", "davis"): (*CROPMAE, 7, 0.7, 5, (480, 880)),
    ("cropmae", "vip"): (*CROPMAE, 10, 0.7, 5, Fit("long", 880)),
    ("cropmae", "jhmdb"): (*CROPMAE, 7, 0.7, 5, (320, 320)),
    ("siammae-4b", "davis"): (*CROPMAE, 7, 0.7, 5, (480, 880)),
    ("siammae-4b", "vip"): ("disc", False, True, 20, 8, 10, 0.7, 5, Fit("long", 880)),
    ("siammae-4b", "jhmdb"): (*CROPMAE, 7, 0.7, 5, (320, 320)),
    ("dino", "davis"): ("square", True, False, 7, 12, 5, 0.1, 5, Fit("short", 480)),
    ("rsp", "davis"): ("square", True, False, 30, 30, 7, 0.1, 5, Fit("short", 480)),
}


def test_every_task_has_the_published_settings():
    found = {
        (name, task): (p.shape, p.mask_first_frame, p.padded_start, p.queue, p.radius, p.top_k, p.temperature,
                       p.joint_cells, p.input_size)
        for name in PROTOCOLS for task in PROTOCOLS[name] for p in [get_protocol(name, task)]
    }  # fmt: skip
    assert found == PUBLISHED
    for name, task in PUBLISHED:
        protocol, square = get_protocol(name, task), name in ("dino", "rsp")
        assert protocol.label_resize == ("nearest" if square else "bilinear")
        assert protocol.channel_min_max == square
    assert get_protocol("crw") == get_protocol("crw", "davis")


def test_overrides_replace_and_leave_the_presets_alone():
    before = PROTOCOLS["cropmae"]["vip"]
    changed = get_protocol("cropmae", "vip", temperature=0.05, input_size=(240, 432))
    assert replace(changed, temperature=before.temperature, input_size=before.input_size) == before
    assert (changed.temperature, changed.input_size) == (0.05, (240, 432)) and before.temperature == 0.7


@pytest.mark.parametrize("name", ["dino", "rsp"])
@pytest.mark.parametrize("task", ["vip", "jhmdb"])
def test_a_task_that_a_protocol_does_not_define_is_told(name, task):
    with pytest.raises(
        UserError, match=f"{name} defines no settings for {task}: choose one of crw, cropmae, siammae-4"
    ):
        get_protocol(name, task)


@pytest.mark.parametrize(
    "message, call",
    [
        ("unknown task 'jhmbd': did you mean 'jhmdb'", lambda: get_protocol("crw", "jhmbd")),
        ("unknown protocol 'siammae'.*siammae-4b", lambda: get_protocol("siammae", "vip")),
        ("unknown protocol field 'topk': did you mean 'top_k'", lambda: get_protocol("dino", topk=3)),
        ("unknown neighbourhood shape 'disk': did you mean 'disc'", lambda: get_protocol("dino", shape="disk")),
        ("unknown label_resize 'aera': did you mean 'area'", lambda: get_protocol("crw", label_resize="aera")),
        ("joint_cells >= 1", lambda: get_protocol("crw", "jhmdb", joint_cells=0)),
        ("queue >= 0", lambda: get_protocol("crw", queue=-1)),
        ("temperature > 0", lambda: get_protocol("dino", temperature=0)),
        ("temperature > 0", lambda: get_protocol("crw", temperature=float("nan"))),
        ("radius and joint_cells >= 1", lambda: get_protocol("crw", radius=0)),
    ],
)
def test_wrong_settings_are_named(message, call):
    with pytest.raises(UserError, match=message):
        call()


def test_tasks_are_three():
    assert {task for tasks in PROTOCOLS.values() for task in tasks} == set(TASKS) == {"davis", "vip", "jhmdb"}
