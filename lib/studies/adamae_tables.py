"""The rows of AdaMAE's tables and charts: the paper's, the study's (lib.studies.masking.read_rows), the benchmark's."""

from collections.abc import Mapping

import pandas as pd
from torch import nn

from lib.studies.adamae_views import REGIONS

# Parameters of the released code at the paper's size, and what ours has more.
RELEASED = {"encoder": 86_227_200, "sampler": 8_290_561, "decoder side": 7_983_744}
MORE = {"key biases, encoder": 12 * 768, "key biases, decoder": 4 * 384, "bias of the projection": 384}
SAMPLERS = {
    "adaptive (ours)": ("1a", "adaptive"), "adaptive (paper)": ("variants", "paper"),
    "adaptive (released code)": ("variants", "released_code"), "REINFORCE": ("variants", "reinforce"),
    "MLP": ("1f", "MLP"), "random": ("1a", "random"),
}  # fmt: skip
TITLES = {
    "1a": "(a) mask types", "1b": "(b) masking ratio", "1c": "(c) decoder depth", "1d": "(d) loss and target",
    "1e": "(e) length of training", "1f": "(f) sampler",
}  # fmt: skip
COLUMNS = {
    "case": "", "ratio": "ratio", "top1": "paper: top-1", "seeds": "seeds", "motion_probe": "ours: motion probe",
    "probe": "ours: mean probe", "puppet": "puppet, x chance", "memory_gb": "paper: memory (GB)",
    "paper_ratio": "paper: memory ratio", "memory_ratio": "ours: memory ratio", "time_ratio": "ours: time ratio",
}  # fmt: skip
DIGITS = {
    "ours: motion probe": 1, "ours: mean probe": 1, "puppet, x chance": 2, "paper: memory ratio": 2,
    "ours: memory ratio": 2, "ours: time ratio": 2,
}  # fmt: skip
PAPER_MEMORY = 14.4  # GB, of the paper's default


def count(module: nn.Module) -> int:
    """Trainable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def size_rows(model: nn.Module) -> list[dict]:
    """The model's parameters, part by part, beside the released code's."""
    parts = {"encoder": model.encoder, "sampler": model.masking, "decoder side": model.decoder, "all": model}
    released = RELEASED | {"all": sum(RELEASED.values())}
    return [
        {"part": name, "released code": f"{released[name]:,}", "this repository": f"{count(part):,}",
         "difference": f"{count(part) - released[name]:,}"}
        for name, part in parts.items()
    ]  # fmt: skip


def region_rows(study: pd.DataFrame) -> pd.DataFrame:
    """For `regions_figure`: what each of SAMPLERS meets at 95 %, a row for each seed and region.

    Random masking has one seed alone: it is chance by construction, and other seeds are other draws of masks.
    """
    study = study[(study["ratio"] == 0.95) & ((study["case"] != "random") | (study["seed"] == 0))]
    parts = [
        study[(study["table"] == table) & (study["case"] == case)].assign(sampler=name)
        for name, (table, case) in SAMPLERS.items()
    ]
    rows = pd.concat(parts).rename(columns=REGIONS)
    return rows.melt("sampler", list(REGIONS.values()), var_name="region", value_name="times_chance")


def motion_or_texture(regions: pd.DataFrame) -> str:
    """In words whether the adaptive sampler of `region_rows` meets motion more often than texture, seed by seed."""
    ours = regions[regions["sampler"] == "adaptive (ours)"].groupby("region")["times_chance"]
    motion, texture = (ours.get_group(REGIONS[layer]).to_numpy() for layer in ("puppet", "poster"))
    ahead = motion - texture  # in the same run
    apart = "motion before texture" if ahead.min() > 0 else "texture before motion"
    order = "seeds disagree" if ahead.min() <= 0 <= ahead.max() else apart
    means = f"motion {motion.mean():.1f}, texture {texture.mean():.1f} times chance"
    return f"Adaptive (ours): {order} in {len(ahead)} seeds, {means}"


def recognition_rows(study: pd.DataFrame) -> pd.DataFrame:
    """The adaptive masking at 95 % and its rivals, seed by seed: `case`, `seed`, and both probes in percent."""
    words = {"adaptive": "adaptive 95 %", "random": "random 95 %", "tube": "tube 94.4 %", "untrained": "untrained"}
    rows = study[study["ratio"].between(0.94, 0.96) & study["table"].isin(["1a", "reference"])]
    rows = rows.set_index("case").loc[list(words), ["seed", "motion_probe", "probe"]].rename(words).reset_index()
    return rows.assign(motion_probe=100 * rows["motion_probe"], probe=100 * rows["probe"])


def table1(paper: pd.DataFrame, study: pd.DataFrame, cost: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Table 1 by the paper's panels: its rows (figures/paper/adamae.csv), our means over seeds, the benchmark's."""
    keys = ["table", "case", "ratio"]
    grouped = study.groupby(keys, sort=False)
    ours = grouped.mean(numeric_only=True).assign(seeds=grouped.size().astype(str)).reset_index()
    cost = cost.assign(table="1" + cost["table"])[[*keys, "memory_ratio", "time_ratio"]]
    rows = paper.merge(ours, on=keys, how="outer", sort=False).merge(cost, on=keys, how="left")
    rows = rows.sort_values(["table", "ratio", "case"], kind="stable")
    rows[["motion_probe", "probe"]] *= 100
    rows["paper_ratio"] = rows["memory_gb"] / PAPER_MEMORY
    return {
        title: rows.loc[rows["table"] == name, list(COLUMNS)].rename(columns=COLUMNS | {"case": title})
        for name, title in TITLES.items()
    }


def cost_rows(benchmark: Mapping) -> list[dict]:
    """Rows for `cost_figure`, ours and the paper's; benchmark: what figures/measured/benchmark_masking.json holds."""
    measures = {("ours", "memory"): "memory_mb", ("ours", "time"): "seconds", ("paper", "memory"): "paper_gb"}
    places = [("masking ratio", row["ratio"], row) for row in benchmark["rows"] if row["table"] == "b"]
    places += [
        ("decoder blocks", float(row["case"].split()[0]), row) for row in benchmark["rows"] if row["table"] == "c"
    ]
    return [
        {"factor": factor, "value": value, "source": source, "measure": measure, "amount": row[column]}
        for factor, value, row in places
        for (source, measure), column in measures.items()
    ]
