"""Data sets as their publishers ship them, read into one shape: `listing.Listing`."""

from types import ModuleType

from pipelines.adapters import audioset, esc50, folder_per_label, fsd50k, youtube8m_vocabulary

# Each has `read`, and for a command line `add_arguments` and `from_arguments`.
ADAPTERS: dict[str, ModuleType] = {
    "audioset": audioset,
    "esc50": esc50,
    "fsd50k": fsd50k,
    "youtube8m-vocabulary": youtube8m_vocabulary,
    "folder-per-label": folder_per_label,
}
