# %% [markdown]
# # From a search to weights
# Each block is a cell (Jupyter, VS Code and PyCharm open this file as a notebook). The numbers are
# small enough for a minute or two on two CPU cores.

# %%
from pathlib import Path

from nas import evaluate, search, train

runs = Path("runs") / "notebook"
storage = f"sqlite:///{runs}/nas.db"

# %% [markdown]
# ## Search: two candidates, each trained for an epoch on handwritten digits

# %%
study = search(
    space="mambaout",
    budget="1GFLOPs",
    data="digits",
    epochs=1,
    trials=2,
    warm_start="none",
    confirm="none",
    storage=storage,
)
study.frame()[["trial", "score", "flops", "params"]]

# %% [markdown]
# ## The best design, as a file that rebuilds it

# %%
arch = study.export(runs / "best.yaml")
model = study.best.build(num_classes=10)
sum(p.numel() for p in model.parameters())

# %% [markdown]
# ## Train it in full; run the cell again to go on after an interruption

# %%
small = {"epochs": 1, "image_size": 32}  # left out: 30 epochs at 64 px
trained = train(arch, "digits", changes=small, out=runs / "train", report=print)
trained.test["top1"]

# %% [markdown]
# ## What the weights are worth at two sizes

# %%
weights = runs / "train" / "weights.safetensors"
found = evaluate(arch, "digits", weights=weights, sizes=[32, 48])
[(row.image_size, row.scores["top1"], row.images_s) for row in found.sizes]
