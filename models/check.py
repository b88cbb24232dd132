"""Searches every model as the tests do and prints what was looked at; `python -m models.check --write` also notes it for the documents."""

import json
import sys
import time

from models.search import FOLDER, Model, differences, expectations, search, without

SEARCHED = FOLDER / "searched.json"


def looked_at(model: Model, mode: str) -> dict[str, object]:
    """The states with every defence of a mode on, and for each minimal set a shortest way to each attack that it must find."""
    ways = {}
    for one in model.sets:
        if one.mode == mode:
            found = search(model, without(model, mode, one.without), model.attacks, until=frozenset(one.finds)).goals
            ways["+".join(one.without)] = {name: " → ".join(found[name]) for name in one.finds}
    return {"states": search(model, model.modes[mode], {}).states, "ways": ways}


def main() -> int:
    """What was found, model by model, and each difference from expected.toml; 1 where there is one."""
    noted: dict[str, object] = {}
    wrong = False
    for name, model in expectations().items():
        began = time.process_time()
        reported = list(differences(model))
        seconds = round(time.process_time() - began, 1)
        print(*(f"{name}: {difference}" for difference in reported), sep="\n", end="\n" if reported else "")
        wrong = wrong or bool(reported)
        if not reported:
            modes = {mode: looked_at(model, mode) for mode in model.modes}
            noted[name] = {"seconds": seconds, "modes": modes}
            print(f"{name}: as expected, {seconds} s", json.dumps(modes, indent=2, ensure_ascii=False))
    if "--write" in sys.argv[1:] and not wrong:
        SEARCHED.write_text(json.dumps(noted, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
