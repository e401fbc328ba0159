"""AdaMAE's tables: the paper's numbers are whole, and ours stand beside their rows."""

import json

import pandas as pd
import pytest
import torch

from lib.models.adamae import AdaMAE
from lib.runtime import REPO_ROOT
from lib.studies import adamae_tables as tables
from lib.studies.masking import read_rows

FIGURES = REPO_ROOT / "figures"


@pytest.fixture(scope="module")
def paper() -> pd.DataFrame:
    return pd.read_csv(FIGURES / "paper" / "adamae.csv")


@pytest.fixture(scope="module")
def study() -> pd.DataFrame:
    return read_rows(FIGURES / "measured" / "masking.csv")


@pytest.fixture(scope="module")
def benchmark() -> dict:
    return json.loads((FIGURES / "measured" / "benchmark_masking.json").read_text())


def test_the_papers_table_is_whole_and_agrees_with_itself(paper):
    assert paper["table"].value_counts().to_dict() == {"1a": 6, "1b": 5, "1c": 4, "1d": 4, "1e": 5, "1f": 4}
    assert paper["source"].str.startswith("arXiv 2211.09120, ").all()
    assert paper["ratio"].between(0, 1).all() and (paper["top1"] < paper["top5"].fillna(100)).all()
    assert not paper.duplicated(["table", "case", "ratio"]).any()
    # each panel holds the default once: 70.04 and 92.70 at 95 %, 14.4 GB where memory is given
    default = paper[paper["top1"] == 70.04]
    assert sorted(default["table"]) == ["1a", "1b", "1c", "1d", "1e", "1f"]
    assert (default["top5"] == 92.70).all() and (default["ratio"] == 0.95).all()
    assert set(default["memory_gb"].dropna()) == {tables.PAPER_MEMORY}
    assert paper.loc[paper["table"].isin(["1d", "1e"]), "memory_gb"].isna().all()
    assert paper.loc[~paper["table"].isin(["1d", "1e"]), "memory_gb"].notna().all()


def test_the_papers_settings_name_their_table():
    chosen = pd.read_csv(FIGURES / "paper" / "adamae_settings.csv", dtype=str)
    assert chosen["table"].value_counts().to_dict() == {"6": 13, "4": 8, "5": 8, "text": 3}
    numbered = chosen[chosen["table"] != "text"]
    assert all(f"Table {row.table}" in row.source for row in numbered.itertuples())
    assert not chosen.duplicated(["table", "item"]).any() and chosen[["ssv2", "k400"]].notna().all(axis=None)
    assert (chosen["output_shape"].notna() == (chosen["table"] == "4")).all()


def test_each_row_of_table_1_has_its_own_numbers(paper, study, benchmark):
    parts = tables.table1(paper, study, pd.DataFrame(benchmark["rows"]))
    ratios = parts["(b) masking ratio"].set_index("ratio")
    assert list(ratios.index) == [0.8, 0.85, 0.9, 0.95, 0.98] and ratios.loc[0.9, "paper: top-1"] == 69.55
    mine = study[(study["table"] == "1b") & (study["ratio"] == 0.95)]
    assert ratios.loc[0.95, "seeds"] == str(len(mine))
    assert ratios.loc[0.95, "ours: motion probe"] == pytest.approx(100 * mine["motion_probe"].mean())
    assert ratios.loc[0.95, "paper: memory ratio"] == ratios.loc[0.95, "ours: memory ratio"] == 1
    lengths = parts["(e) length of training"].set_index("(e) length of training")
    assert lengths.loc["700 epochs", ["seeds", "ours: mean probe"]].isna().all()  # in the paper's text alone
    assert sum(map(len, parts.values())) == len(paper) + 2  # our random and tube rows of about 95 %


def test_costs_have_a_row_for_each_measure(benchmark):
    rows = pd.DataFrame(tables.cost_rows(benchmark))
    assert set(rows.loc[rows["factor"] == "decoder blocks", "value"]) == {1, 2, 4, 8}
    memory = rows[(rows["measure"] == "memory") & (rows["source"] == "paper")].set_index(["factor", "value"])["amount"]
    assert memory["masking ratio", 0.8] == 16.9 and memory["decoder blocks", 8] == 21.3


def test_regions_and_recognition_are_of_the_rows_at_95_percent(study):
    regions = tables.region_rows(study)
    sizes = regions.groupby("sampler", sort=False).size() / 3
    assert sizes.to_dict() == dict(zip(tables.SAMPLERS, (3, 1, 1, 1, 3, 1), strict=True))
    adaptive = study[(study["table"] == "1a") & (study["case"] == "adaptive")]
    of_puppet = regions[(regions["sampler"] == "adaptive (ours)") & (regions["region"] == "moving objects")]
    assert list(of_puppet["times_chance"]) == list(adaptive["puppet"])
    rows = tables.recognition_rows(study)
    assert list(rows["case"].unique()) == ["adaptive 95 %", "random 95 %", "tube 94.4 %", "untrained"]
    assert list(rows["seed"]) == [0, 1, 2] * 4
    assert list(rows["probe"][:3]) == pytest.approx(list(100 * adaptive["probe"]))


@pytest.mark.parametrize(
    ("texture", "words"), [(1.0, "motion before texture"), (2.0, "seeds disagree"), (3.0, "texture before motion")]
)
def test_motion_or_texture_is_asked_in_each_seed(texture, words):
    motion = [1.5, 2.5]
    rows = pd.DataFrame(
        {"sampler": "adaptive (ours)", "region": region, "times_chance": values}
        for region, seeds in (("moving objects", motion), ("static distractors", [texture] * 2))
        for values in seeds
    )
    said = tables.motion_or_texture(rows)
    assert words in said and f"motion 2.0, texture {texture:.1f}" in said


def test_the_difference_to_the_released_code_is_explained():
    with torch.device("meta"):
        released = AdaMAE(variant="released_code", positions="flattened")
    assert tables.count(released) - sum(tables.RELEASED.values()) == sum(tables.MORE.values())
    assert tables.size_rows(released)[-1]["released code"] == "102,501,505"
