"""lm-eval tasks on local data: a log-likelihood choice, a generation, a document's likelihood, and one that would run code."""

import json
from pathlib import Path

import yaml

CHOICES = [
    {"question": f"{n} and {n} is", "options": [f"{2 * n}", f"{2 * n + 1}", f"not {n}"], "label": n % 3}
    for n in range(7)
]
SUMS = [{"question": f"{'what is ' * (n % 3)}{n}+{n}=", "answer": f"{2 * n}"} for n in range(6)]
TEXTS = [{"text": "a b " * (3 + 11 * n)} for n in range(3)]


def write_tasks(folder: Path) -> str:
    """Write the data and the task configs; return the folder to include."""
    tasks = {
        "local_choice": (
            CHOICES,
            {
                "output_type": "multiple_choice",
                "doc_to_text": "{{question}}",
                "doc_to_target": "label",
                "doc_to_choice": "options",
                "metric_list": [
                    {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc_norm", "acc")
                ],
            },
        ),
        "local_sums": (
            SUMS,
            {
                "output_type": "generate_until",
                "doc_to_text": "{{question}}",
                "doc_to_target": "{{answer}}",
                "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 9},
                "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
            },
        ),
        "local_text": (
            TEXTS,
            {"output_type": "loglikelihood_rolling", "doc_to_text": "", "doc_to_target": "{{text}}"},
        ),
        "local_code": (
            SUMS,
            {
                "output_type": "generate_until",
                "unsafe_code": True,
                "doc_to_text": "{{question}}",
                "doc_to_target": "{{answer}}",
            },
        ),
        "local_script": (
            SUMS,
            {
                "output_type": "generate_until",
                "doc_to_text": "{{question}}",
                "doc_to_target": "{{answer}}",
                "metric_list": [{"metric": "code_eval", "aggregation": "mean", "higher_is_better": True}],
            },
        ),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, (rows, config) in tasks.items():
        data = folder / f"{name}.json"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        source = {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")}
        whole = {"task": name, "dataset_path": "json", "dataset_kwargs": source, "test_split": "test", **config}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(whole))
    (folder / "group.yaml").write_text(yaml.safe_dump({"group": "local_group", "task": ["local_choice", "local_code"]}))
    return str(folder)
