"""Settings as `papermill -p` and `-y` hand them over: taken as they are meant, or one line before any work."""

import json

import pytest

import make
from lib import presets
from lib.errors import UserError
from lib.presets.frame_pairs import VIT_SIZES

ODD = [8, 0, -1, 2.5, "8", "[4, 48]", [4], [4, 48], [48, 4], ["4", "48"], [0.5, 1], [1, 0.5], [], {}, True, "toy"]
TABLES = {"SIAMMAE": presets.SIAMMAE, "ADAMAE": presets.ADAMAE, "FINE_TUNING": presets.FINE_TUNING}
PAIRS = {"gap", "crop_scale", "eval_size", "part_size", "second_crop", "betas", "crop_area"}


def usable(name: str, value: object, default: object) -> bool:
    """Whether later code can use a setting of this value."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value is None or isinstance(value, bool):
        return value is default or isinstance(default, bool)
    if name in PAIRS:
        low, high = value
        return (0 <= low <= high if name == "gap" else True) and (0 < low <= high <= 1 if "crop" in name else True)
    if name == "blocks":
        return len(value) > 0 and all(isinstance(v, int) and (v >= 1 or v == -1) for v in value)
    if name == "encoder":
        return value in VIT_SIZES
    return isinstance(value, str) or (value >= 0 if isinstance(value, float) or whole else False)


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_takes_what_it_means_or_refuses_in_one_line(table):
    defaults, taken = vars(presets.get(TABLES[table], "toy")), 0
    for name, default in defaults.items():
        for value in ODD:
            try:
                found = getattr(presets.get(TABLES[table], "toy", **{name: value}), name)
            except UserError as error:
                assert "\n" not in str(error)
                continue
            taken += 1
            assert usable(name, found, default), f"{name}={value!r} is taken as {found!r}"
    assert taken > len(defaults) / 2


def test_a_notebooks_own_parameters_have_types():
    values = {"seed": 3, "rows": ["MAE", "RGB"], "epochs": 2, "retrain": False, "out_dir": None, "weights": "a.pth"}
    kinds = {
        "seed": int, "rows": tuple[str, ...] | None, "epochs": float | None, "retrain": bool, "out_dir": str | None,
        "weights": str | tuple[str, ...],
    }  # fmt: skip
    presets.check_types(values, **kinds)
    presets.check_types({**values, "weights": ["a.pth", "b.pth"], "rows": None, "seed": 0}, **kinds)
    wrong = {"seed": [-1, "3", 1.5, None, [3]], "rows": ["MAE", [3], 5], "epochs": ["2", [2]], "retrain": ["yes", 1],
             "out_dir": [["a"], 5], "weights": [5, None, [5]]}  # fmt: skip
    for name, others in wrong.items():
        for value in others:
            with pytest.raises(UserError, match=f"^{name} is ") as caught:
                presets.check_types({**values, name: value}, **kinds)
            assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="seeds is 0: it must be 1 or more"):
        presets.check_types({"seeds": 0}, seeds=int)


@pytest.mark.parametrize("path", make.notebooks(), ids=lambda path: path.name)
def test_every_parameter_of_a_notebook_is_checked_by_name(path):
    """By check_types, or by a preset that it overrides."""
    cells = json.loads((make.ROOT / path).read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    setup = next(source for source in code if "presets.check_types" in source)
    for name in make.parameters(make.ROOT / path).keys() - {"repo_url", "study_sequences"}:
        assert f"{name}=" in setup or f'"{name}": {name}' in setup, name
