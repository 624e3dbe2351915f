"""Pictures for tests: what was drawn on Axes."""


def line(ax, label):
    """The y of the one line whose label contains ``label``."""
    (found,) = [each for each in ax.get_lines() if label in str(each.get_label())]
    return found.get_ydata()
