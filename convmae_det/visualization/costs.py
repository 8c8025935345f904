"""What a network costs, as a picture: operations by part, time and memory, each by image size."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .curves import rasterise


def draw_costs(result: dict) -> Image.Image:
    """Draws what `costs.network.analyze` gives."""
    figure = Figure((12.5, 4.2), dpi=120, layout="constrained")
    work, time, memory = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    rows = result["sizes"]
    _draw_operations(work, result)
    pixels = [row["size"] ** 2 for row in rows]
    operations = [sum(row["operations"].values()) for row in rows]
    predicted = [rows[0]["seconds"] * n / operations[0] for n in operations]
    time.plot(pixels, [row["seconds"] for row in rows], "o-", color="C0", label="measured")
    time.plot(pixels, predicted, "--", color="C1", label="as operations grow")
    time.legend(frameon=False, fontsize=8)
    kind = "optimizer step" if result["train"] else "forward pass"
    time.set_title(f"seconds, {kind}, batch {result['batch_size']}", fontsize=10)
    memory.plot(pixels, [row["memory"] / 1e9 for row in rows], "o-", color="C2")
    memory.set_title("memory at the peak, GB", fontsize=10)
    for ax in (time, memory):
        ax.set_xticks(pixels, [f"{row['size']}²" for row in rows])
        ax.set_xlim(0, pixels[-1] * 1.06)
        ax.set_ylim(0, 1.08 * ax.get_ylim()[1])
        ax.grid(alpha=0.3)
    for ax in (work, time, memory):
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("image, pixels", fontsize=9)
    figure.suptitle(f"{result['config_file']} on {result['device']}, torch {result['torch']}", fontsize=10)
    return rasterise(figure)


def _draw_operations(ax: Axes, result: dict) -> None:
    """Draws a bar for each size, stacked by part; the legend, in the same order, names the parameters, too."""
    rows = result["sizes"]
    bottom = [0.0] * len(rows)
    for number, (part, count) in enumerate(result["parameters"].items()):
        heights = [row["operations"][part] / 1e9 for row in rows]
        if count or any(heights):
            label = f"{part}, {count / 1e6:.1f} M"
            ax.bar([f"{row['size']}²" for row in rows], heights, 0.6, bottom, label=label, color=f"C{number}")
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
    for column, total in enumerate(bottom):
        ax.annotate(f"{total:,.4g}", (column, total), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    ax.set_title("GFLOP, forward for one image", fontsize=10)
    total = sum(result["parameters"].values()) / 1e6
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        handles[::-1], labels[::-1], title=f"part, parameters ({total:.1f} M)", frameon=False, fontsize=8,
        title_fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5),
    )  # fmt: skip
